use std::fs::File;
use std::path::PathBuf;

use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

use super::*;
use crate::fixture::write;

/// A folder of images, and one for the cache beside it.
struct Folder {
    all: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self {
            all: TempDir::new().unwrap(),
        }
    }

    /// Two classes to train on, one image of them to test on; every image is 2 rows of 3 pixels.
    fn good() -> Self {
        let folder = Self::new();
        folder.put("train/cat/0.png", &colour(10));
        folder.put("train/cat/1.png", &colour(20));
        folder.put("train/dog/0.PNG", &colour(30));
        folder.put("test/dog/0.png", &colour(40));
        folder
    }

    fn root(&self) -> PathBuf {
        self.all.path().join("images")
    }

    fn cache(&self) -> PathBuf {
        self.all.path().join("cache")
    }

    fn put(&self, name: &str, image: &DynamicImage) {
        let path = self.root().join(name);
        let is_jpeg = name.ends_with("jpg") || name.ends_with("jpeg");
        let format = if is_jpeg {
            ImageFormat::Jpeg
        } else {
            ImageFormat::Png
        };
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        write(&path, &bytes.into_inner());
    }

    fn read(&self) -> Result<Dataset, Error> {
        read(&self.root(), None, Some(&self.cache()))
    }

    /// The one file in the cache folder.
    fn cache_file(&self) -> PathBuf {
        let mut files = fs::read_dir(self.cache()).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "one folder has one cache file");
        file
    }

    /// Replaces a file's content by garbage of the same length, at the same modification time.
    fn damage_unseen(&self, name: &str) {
        let path = self.root().join(name);
        let metadata = fs::metadata(&path).unwrap();
        write(&path, &vec![b'x'; usize::try_from(metadata.len()).unwrap()]);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(metadata.modified().unwrap()).unwrap();
    }
}

/// An image with red `start`, green `start + 1` and blue `start + 2` in its first pixel, and its own value in each.
fn colour(start: u8) -> DynamicImage {
    RgbImage::from_fn(3, 2, |x, y| {
        let pixel = start + u8::try_from(100 * y + 3 * x).unwrap();
        Rgb([pixel, pixel + 1, pixel + 2])
    })
    .into()
}

fn grey(value: u8) -> DynamicImage {
    GrayImage::from_pixel(3, 2, Luma([value])).into()
}

#[test]
fn images_to_look_at_get_the_form_of_the_data_set() {
    let folder = Folder::good();
    folder.put("train/cat/.hidden.png", &colour(1));
    folder.put("train/zebra.png", &grey(7));
    folder.put(
        "train/wide.png",
        &RgbImage::from_pixel(6, 4, Rgb([9, 8, 7])).into(),
    );
    let set = Folder::good().read().unwrap();
    let (paths, pixels) = read_images(&folder.root().join("train"), set.shape).unwrap();
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.strip_prefix(folder.root()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "train/cat/0.png",
            "train/cat/1.png",
            "train/dog/0.PNG",
            "train/wide.png",
            "train/zebra.png"
        ]
    );
    assert_eq!(pixels[..54], set.train.pixels);
    assert_eq!(pixels[54..72], [[9; 6], [8; 6], [7; 6]].concat());
    assert_eq!(pixels[72..], [7; 18]);

    // One file, for a network that has learnt grey images; and what is none.
    let shape = ImageShape {
        channels: 1,
        ..set.shape
    };
    let (_, pixels) = read_images(&folder.root().join("train/wide.png"), shape).unwrap();
    assert_eq!(pixels, [8; 6]);
    write(&folder.root().join("train/bad.png"), b"no image");
    let error = read_images(&folder.root(), shape).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot use 1 of the 7 images in") && error.contains("bad.png"),
        "{error}"
    );
    let error = read_images(folder.all.path(), shape).unwrap_err();
    assert!(matches!(error, Error::BadImages { .. }), "{error}");
    let empty = Folder::new();
    let error = read_images(empty.all.path(), shape).unwrap_err();
    assert!(matches!(error, Error::EmptyClass { .. }), "{error}");
}

#[test]
fn classes_are_the_sorted_folder_names_and_pixels_lie_in_planes() {
    let set = Folder::good().read().unwrap();
    assert_eq!(set.class_names, ["cat", "dog"]);
    assert_eq!(
        set.shape,
        ImageShape {
            channels: 3,
            height: 2,
            width: 3
        }
    );
    assert_eq!(set.train.labels, [0, 0, 1]);
    let red = [10, 13, 16, 110, 113, 116];
    let planes = [red, red.map(|pixel| pixel + 1), red.map(|pixel| pixel + 2)].concat();
    assert_eq!(set.train.pixels[..18], planes);
    assert_eq!(set.train.pixels[18], 20);
    let test = set.test.unwrap();
    assert_eq!((test.labels[..].to_vec(), test.pixels[0]), (vec![1], 40));
}

#[test]
fn a_folder_without_a_test_side_has_none() {
    let folder = Folder::new();
    folder.put("train/a/0.png", &colour(0));
    folder.put("train/b/0.png", &colour(1));
    assert_eq!(folder.read().unwrap().test, None);
}

#[test]
fn jpeg_images_are_read_whatever_their_ending() {
    let folder = Folder::new();
    let flat: DynamicImage = RgbImage::from_pixel(3, 2, Rgb([200, 200, 200])).into();
    folder.put("train/a/0.jpg", &flat);
    folder.put("train/a/1.jpeg", &flat);
    // Content decides: a PNG under the name of a JPEG.
    folder.put("train/a/2.png", &flat);
    let bytes = fs::read(folder.root().join("train/a/2.png")).unwrap();
    write(&folder.root().join("train/a/3.jpg"), &bytes);
    let set = folder.read().unwrap();
    assert_eq!(set.train.len(), 4);
    assert!(
        set.train
            .pixels
            .iter()
            .all(|pixel| pixel.abs_diff(200) <= 2)
    );
}

#[test]
fn images_are_grey_only_where_all_are() {
    let folder = Folder::new();
    folder.put("train/a/0.png", &grey(7));
    folder.put("train/a/1.png", &grey(9));
    let set = folder.read().unwrap();
    assert_eq!((set.shape.channels, set.train.pixels.len()), (1, 12));
    folder.put("train/a/2.png", &colour(50));
    let set = folder.read().unwrap();
    assert_eq!(set.shape.channels, 3);
    assert_eq!(set.train.pixels[..36], [[7; 18], [9; 18]].concat());
}

#[test]
fn transparency_is_dropped_and_16_bits_become_8() {
    let folder = Folder::new();
    folder.put(
        "train/a/0.png",
        &RgbaImage::from_pixel(3, 2, Rgba([1, 2, 3, 0])).into(),
    );
    let deep = image::ImageBuffer::from_pixel(3, 2, Rgb([0xffff_u16, 0x8080, 0]));
    folder.put("train/a/1.png", &DynamicImage::ImageRgb16(deep));
    let images = folder.read().unwrap().train.pixels;
    assert_eq!([images[0], images[6], images[12]], [1, 2, 3]);
    assert_eq!([images[18], images[24], images[30]], [255, 128, 0]);
}

#[test]
fn hidden_and_other_files_are_passed_over() {
    let folder = Folder::good();
    let expected = folder.read().unwrap();
    write(&folder.root().join("train/cat/.DS_Store"), b"x");
    write(&folder.root().join("train/cat/notes.txt"), b"x");
    write(&folder.root().join("train/README"), b"x");
    write(&folder.root().join("train/.cache/0.png"), b"x");
    assert_eq!(folder.read().unwrap(), expected);
}

#[test]
fn an_unreadable_image_is_named() {
    let folder = Folder::good();
    write(&folder.root().join("train/dog/broken.jpg"), b"not an image");
    let text = folder.read().unwrap_err().to_string();
    let root = folder.root();
    let start = format!("cannot use 1 of the 5 images in `{}`:\n", root.display());
    assert!(text.starts_with(&start), "{text}");
    let path = root.join("train/dog/broken.jpg");
    assert!(
        text.contains(&format!("\n  `{}`: ", path.display())),
        "{text}"
    );
    assert!(
        !folder.cache().exists(),
        "nothing is kept of a folder that cannot be used"
    );
}

#[test]
fn an_image_cut_off_anywhere_is_named() {
    let folder = Folder::good();
    // Large enough that the decoder could make up the rest.
    let large = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([x * y, 7 * x, y].map(|value| value.to_le_bytes()[0]))
    });
    for name in ["train/cat/cut.png", "train/cat/cut.jpg"] {
        folder.put(name, &large.clone().into());
        let path = folder.root().join(name);
        let whole = fs::read(&path).unwrap();
        for eighths in 1..8 {
            write(&path, &whole[..whole.len() * eighths / 8]);
            let text = folder.read().unwrap_err().to_string();
            assert!(
                text.contains(&format!("\n  `{}`: ", path.display())),
                "{text}"
            );
            assert!(
                !text.contains("that of the others"),
                "{eighths} eighths: {text}"
            );
        }
        fs::remove_dir_all(folder.root().join("train/cat")).unwrap();
    }
}

#[test]
fn an_image_of_another_size_than_most_is_named_with_both_sizes() {
    let folder = Folder::good();
    // The first file, so that the first is not simply taken for the measure.
    let large = colour(0).resize_exact(5, 4, FilterType::Nearest);
    folder.put("train/cat/00.png", &large);
    let text = folder.read().unwrap_err().to_string();
    assert!(text.starts_with("cannot use 1 of the 5 images"), "{text}");
    assert!(
        text.contains("cat/00.png`: its size is 4×5, that of the others 2×3"),
        "{text}"
    );
}

#[test]
fn all_bad_images_are_counted_and_the_first_listed() {
    let folder = Folder::good();
    for i in 0..8 {
        write(&folder.root().join(format!("train/cat/bad{i}.png")), b"x");
    }
    let error = folder.read().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cannot use 8 of the 12 images"), "{text}");
    assert!(
        text.contains("bad4.png") && !text.contains("bad5.png"),
        "{text}"
    );
    assert!(text.ends_with("\n  and 3 more"), "{text}");
}

#[test]
fn a_folder_with_bad_images_alone_is_refused() {
    let folder = Folder::new();
    write(&folder.root().join("train/a/0.png"), b"x");
    let text = folder.read().unwrap_err().to_string();
    assert!(text.starts_with("cannot use 1 of the 1 images"), "{text}");
}

#[test]
fn resizing_brings_all_to_one_size() {
    let folder = Folder::good();
    folder.put(
        "train/cat/large.png",
        &colour(0).resize_exact(9, 8, FilterType::Nearest),
    );
    let resized = |side| read(&folder.root(), NonZeroU32::new(side), Some(&folder.cache()));
    let set = resized(4).unwrap();
    assert_eq!(
        set.shape,
        ImageShape {
            channels: 3,
            height: 4,
            width: 4
        }
    );
    assert_eq!(set.train.len(), 4);
    // Another size is another cache file, and the first stays.
    assert_eq!(resized(2).unwrap().shape.height, 2);
    assert_eq!(fs::read_dir(folder.cache()).unwrap().count(), 2);
}

#[test]
fn a_path_that_is_no_such_folder_is_explained() {
    let folder = Folder::new();
    let text = folder.read().unwrap_err().to_string();
    assert!(text.contains("no folder train at"), "{text}");
    assert!(
        text.ends_with("train/<class>/*.png, *.jpg or *.jpeg in it"),
        "{text}"
    );
    fs::create_dir_all(folder.root().join("train")).unwrap();
    let text = folder.read().unwrap_err().to_string();
    assert!(text.contains("no class folder in train at"), "{text}");
}

#[test]
fn a_class_without_images_is_named() {
    let folder = Folder::good();
    fs::create_dir(folder.root().join("train/cow")).unwrap();
    let text = folder.read().unwrap_err().to_string();
    assert!(
        text.starts_with("no .png, .jpg or .jpeg images in") && text.contains("train/cow"),
        "{text}"
    );
}

#[test]
fn a_test_class_without_training_images_is_named() {
    let folder = Folder::good();
    folder.put("test/cow/0.png", &colour(1));
    let text = folder.read().unwrap_err().to_string();
    assert!(
        text.contains("test/cow") && text.ends_with("which has: cat, dog"),
        "{text}"
    );
}

#[test]
fn the_cache_is_used_while_no_file_changes() {
    let folder = Folder::good();
    let first = folder.read().unwrap();
    // Decoding would fail now, and the listing cannot tell.
    folder.damage_unseen("train/cat/1.png");
    assert_eq!(folder.read().unwrap(), first);
    assert!(read(&folder.root(), None, None).is_err());
    // By whatever path the folder is reached.
    let detour = folder.root().join("../images");
    assert_eq!(read(&detour, None, Some(&folder.cache())).unwrap(), first);
}

#[test]
fn a_file_that_is_changed_added_or_removed_is_seen_through_the_cache() {
    let folder = Folder::good();
    let first = folder.read().unwrap();
    folder.put("train/cat/2.png", &colour(50));
    let second = folder.read().unwrap();
    assert_eq!((first.train.len(), second.train.len()), (3, 4));
    let path = folder.root().join("train/cat/2.png");
    folder.put("train/cat/2.png", &colour(51));
    let file = File::options().write(true).open(&path).unwrap();
    let second_ago =
        fs::metadata(&path).unwrap().modified().unwrap() - std::time::Duration::from_secs(1);
    file.set_modified(second_ago).unwrap();
    let third = folder.read().unwrap();
    assert_ne!(second.digest(), third.digest());
    fs::create_dir(folder.all.path().join("gone")).unwrap();
    let away = Folder::good();
    assert_eq!(away.read().unwrap().digest(), first.digest());
    folder.cache_file();
}

#[test]
fn a_damaged_cache_is_rebuilt() {
    let folder = Folder::good();
    let expected = folder.read().unwrap();
    let path = folder.cache_file();
    let good = fs::read(&path).unwrap();
    let newline = good.iter().position(|&byte| byte == b'\n').unwrap();
    let header = String::from_utf8(good[..newline].to_vec()).unwrap();
    let with_header = |header: String| [header.as_bytes(), &good[newline..]].concat();
    let mut flipped = good.clone();
    flipped[newline + 5] ^= 1;
    let mut wild_label = good.clone();
    *wild_label.last_mut().unwrap() = 0xff;
    let damaged = [
        Vec::new(),
        b"{}\n".to_vec(),
        good[..newline / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        with_header(header.replace("\"num_train\":3", "\"num_train\":4611686018427387904")),
        with_header(header.replace("\"num_train\":3", "\"num_train\":2")),
        with_header(header.replace("\"version\":1", "\"version\":2")),
        with_header(
            header
                .replace("\"height\":2", "\"height\":3")
                .replace("\"width\":3", "\"width\":2"),
        ),
        flipped,
        wild_label,
    ];
    for bytes in damaged {
        assert_ne!(bytes, good);
        write(&path, &bytes);
        assert_eq!(folder.read().unwrap(), expected);
        assert_eq!(
            fs::read(&path).unwrap(),
            good,
            "the cache file is whole again"
        );
    }
}

#[test]
fn a_cache_that_cannot_be_written_does_not_stop_the_work() {
    let folder = Folder::good();
    let expected = read(&folder.root(), None, None).unwrap();
    // A file where the cache folder should be: also root cannot write there.
    write(&folder.cache(), b"");
    assert_eq!(folder.read().unwrap(), expected);
    assert_eq!(folder.read().unwrap(), expected);
}

#[test]
fn nothing_is_written_beside_the_images() {
    let folder = Folder::good();
    let list = || -> Vec<PathBuf> {
        WalkDir::new(folder.root())
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .collect()
    };
    let before = list();
    folder.read().unwrap();
    assert_eq!(list().len(), before.len());
}
