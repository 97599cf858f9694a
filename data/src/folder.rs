//! Folders of images: `train/<class>/*.{png,jpg,jpeg}`, with or without a `test/` side.
//!
//! The classes are the names of the folders in `train`, sorted; the items are the files, sorted by class and name.
//! Images are grey where every one of them is, and red, green, blue otherwise; transparency is dropped, 16 bits a
//! channel become 8. Decoded images are kept in the [`cache`].

use std::fs;
use std::io::Cursor;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{ColorType, DynamicImage, ImageError, ImageFormat, ImageReader};
use rayon::prelude::*;
use shared::dataset::DatasetName;
use walkdir::WalkDir;

use crate::cache::{self, Key};
use crate::dataset::{Dataset, ImageShape, Images};
use crate::error::{self, BadImage, Error};
use crate::jpeg;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Labels are `u16`.
const MAX_CLASSES: usize = 1 << 16;

/// Bad images named in an error; the others are counted.
const NUM_LISTED: usize = 5;

/// One image file.
struct Item {
    path: PathBuf,
    label: u16,
}

/// Reads images to be looked at by a network that was trained on a data set: one file, or all of a folder and its
/// folders, sorted by path. Each is brought to the data set's size and to its colours.
///
/// # Errors
/// Files that cannot be read or decoded, all counted and the first ones named; no image at all.
pub fn read_images(path: &Path, shape: ImageShape) -> Result<(Vec<PathBuf>, Vec<u8>), Error> {
    let mut paths = Vec::new();
    if path.is_dir() {
        let walk = WalkDir::new(path).follow_links(true).sort_by_file_name();
        for entry in walk
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry))
        {
            let entry = entry.map_err(|error| walk_error(path, error))?;
            if entry.file_type().is_file() && is_image(entry.path()) {
                paths.push(entry.into_path());
            }
        }
    } else {
        paths.push(path.to_owned());
    }
    if paths.is_empty() {
        return Err(Error::EmptyClass {
            path: path.to_owned(),
        });
    }
    let decoded: Vec<Result<Vec<u8>, String>> = paths
        .par_iter()
        .map(|path| decode_like(path, shape))
        .collect();
    let mut pixels = Vec::with_capacity(paths.len() * shape.image_len());
    let mut bad = Vec::new();
    for (path, decoded) in paths.iter().zip(decoded) {
        match decoded {
            Ok(image) => pixels.extend(image),
            Err(reason) => bad.push(BadImage {
                path: path.clone(),
                reason,
            }),
        }
    }
    if bad.is_empty() {
        return Ok((paths, pixels));
    }
    let (num_images, num_bad) = (paths.len(), bad.len());
    bad.truncate(NUM_LISTED);
    Err(Error::BadImages {
        path: path.to_owned(),
        num_images,
        num_bad,
        first: bad,
    })
}

/// Decodes one image into a given form. `[channels, height, width]`
fn decode_like(path: &Path, shape: ImageShape) -> Result<Vec<u8>, String> {
    let mut image = open(path)?;
    let size = |side: usize| u32::try_from(side).expect("the side of an image");
    let (height, width) = (size(shape.height), size(shape.width));
    if (image.height(), image.width()) != (height, width) {
        image = image.resize_exact(width, height, FilterType::Triangle);
    }
    let is_grey = shape.channels == 1;
    let values = if is_grey {
        image.into_luma8().into_raw()
    } else {
        image.into_rgb8().into_raw()
    };
    let size = Size { height, width };
    let image = Decoded {
        size,
        is_grey,
        values,
    };
    Ok(planes(std::iter::once(image), 1, shape))
}

/// The files of a data set, in order.
struct Files {
    class_names: Vec<String>,
    train: Vec<Item>,
    test: Option<Vec<Item>>,
}

/// Reads a folder, from the cache where it holds just these files.
pub(crate) fn read(
    root: &Path,
    resize: Option<NonZeroU32>,
    cache: Option<&Path>,
) -> Result<Dataset, Error> {
    let mut key = Key::new(root, resize);
    let files = list(root, &mut key)?;
    let entry = cache.map(|folder| cache::Entry::new(folder, key));
    if let Some(dataset) = entry.as_ref().and_then(cache::Entry::load) {
        return Ok(dataset);
    }
    let dataset = decode_all(root, files, resize)?;
    if let Some(entry) = entry {
        entry.store(&dataset);
    }
    Ok(dataset)
}

/// Lists the files of both sides and tells the cache's key about each.
fn list(root: &Path, key: &mut Key) -> Result<Files, Error> {
    let not_found = |looked_for: &str| {
        let dataset = DatasetName::Folder;
        let origin = error::origin(dataset);
        Error::NotFound {
            dataset,
            path: root.to_owned(),
            looked_for: looked_for.to_owned(),
            origin,
        }
    };
    let folder = root.join("train");
    if !folder.is_dir() {
        return Err(not_found("folder train"));
    }
    let class_names = class_names(&folder)?;
    if class_names.is_empty() {
        return Err(not_found("class folder in train"));
    }
    if class_names.len() > MAX_CLASSES {
        let (found, limit) = (class_names.len(), MAX_CLASSES);
        return Err(Error::TooManyClasses {
            path: folder,
            found,
            limit,
        });
    }
    let train = list_side(root, "train", &class_names, key)?;
    let test_folder = root.join("test");
    let test = if test_folder.is_dir() {
        for name in self::class_names(&test_folder)? {
            if class_names.binary_search(&name).is_err() {
                return Err(Error::UnknownClass {
                    path: test_folder.join(name),
                    classes: class_names,
                });
            }
        }
        Some(list_side(root, "test", &class_names, key)?)
    } else {
        None
    };
    for (label, name) in (0..=u16::MAX).zip(&class_names) {
        // Sorted by label, so the search is a binary one.
        if train
            .binary_search_by_key(&label, |item| item.label)
            .is_err()
        {
            return Err(Error::EmptyClass {
                path: folder.join(name),
            });
        }
    }
    Ok(Files {
        class_names,
        train,
        test,
    })
}

/// The names of the folders in a side, sorted.
fn class_names(side: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in entries(side) {
        let entry = entry.map_err(|error| walk_error(side, error))?;
        if entry.file_type().is_dir() && !is_hidden(&entry) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    // By bytes, which is how the search for a name compares.
    names.sort_unstable();
    Ok(names)
}

/// The images of one side; classes without a folder have none.
fn list_side(
    root: &Path,
    side: &str,
    class_names: &[String],
    key: &mut Key,
) -> Result<Vec<Item>, Error> {
    let side = root.join(side);
    let mut items = Vec::new();
    let mut passed_over = 0_usize;
    for (label, name) in (0..=u16::MAX).zip(class_names) {
        let folder = side.join(name);
        if !folder.is_dir() {
            continue;
        }
        for entry in entries(&folder) {
            let entry = entry.map_err(|error| walk_error(&folder, error))?;
            if is_hidden(&entry) {
                continue;
            }
            if !is_image(entry.path()) || !entry.file_type().is_file() {
                passed_over += 1;
                continue;
            }
            let metadata = entry
                .metadata()
                .map_err(|error| walk_error(entry.path(), error))?;
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            // From the root on, so that the key is the same by whatever path the root is reached.
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
            key.add_file(path, metadata.size(), modified);
            items.push(Item {
                path: entry.into_path(),
                label,
            });
        }
    }
    if passed_over > 0 {
        let folder = side.display();
        tracing::warn!(
            "passed over {passed_over} files in {folder} that are not .png, .jpg or .jpeg"
        );
    }
    Ok(items)
}

fn entries(folder: &Path) -> walkdir::IntoIter {
    let walk = WalkDir::new(folder).min_depth(1).max_depth(1);
    walk.follow_links(true).sort_by_file_name().into_iter()
}

fn walk_error(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_owned();
    Error::Read {
        path,
        source: error.into(),
    }
}

fn is_hidden(entry: &walkdir::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Rows and columns of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

/// One decoded image: grey, or red, green and blue for each pixel in turn.
struct Decoded {
    size: Size,
    is_grey: bool,
    values: Vec<u8>,
}

fn decode_all(root: &Path, files: Files, resize: Option<NonZeroU32>) -> Result<Dataset, Error> {
    let Files {
        class_names,
        train,
        test,
    } = files;
    let items: Vec<&Item> = train.iter().chain(test.iter().flatten()).collect();
    tracing::info!("decoding {} images in {}", items.len(), root.display());
    // In the order of the items, whichever thread decodes which.
    let decoded: Vec<Result<Decoded, String>> = items
        .par_iter()
        .map(|item| decode(&item.path, resize))
        .collect();
    let size = usual_size(&decoded);
    let mut images = Vec::with_capacity(items.len());
    let mut bad = Vec::new();
    for (item, decoded) in items.iter().zip(decoded) {
        let usable = decoded.and_then(|image| match size {
            Some(size) if size != image.size => Err(format!(
                "its size is {}×{}, that of the others {}×{} (`resize` brings all to one size)",
                image.size.height, image.size.width, size.height, size.width
            )),
            _ => Ok(image),
        });
        match usable {
            Ok(image) => images.push(image),
            Err(reason) => bad.push(BadImage {
                path: item.path.clone(),
                reason,
            }),
        }
    }
    let (num_images, num_bad) = (items.len(), bad.len());
    let Some(size) = size.filter(|_| bad.is_empty()) else {
        bad.truncate(NUM_LISTED);
        return Err(Error::BadImages {
            path: root.to_owned(),
            num_images,
            num_bad,
            first: bad,
        });
    };
    let shape = ImageShape {
        channels: if images.iter().all(|image| image.is_grey) {
            1
        } else {
            3
        },
        height: usize::try_from(size.height).expect("pixels fit the address space"),
        width: usize::try_from(size.width).expect("pixels fit the address space"),
    };
    let mut images = images.into_iter();
    let mut side = |items: &[Item]| Images {
        pixels: planes(images.by_ref().take(items.len()), items.len(), shape),
        labels: items.iter().map(|item| item.label).collect(),
    };
    let train = side(&train);
    let test = test.map(|items| side(&items));
    Ok(Dataset::new(
        DatasetName::Folder,
        train,
        test,
        shape,
        class_names,
    ))
}

/// Opens one image; what its content is decides how, not its name.
fn open(path: &Path) -> Result<DynamicImage, String> {
    // The decoder's messages end with a line break.
    let reason = |error: ImageError| error.to_string().trim_end().to_owned();
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let format = image::guess_format(&bytes).map_err(reason)?;
    if format == ImageFormat::Jpeg && !jpeg::is_whole(&bytes) {
        return Err("it is cut off before the end of the image".to_owned());
    }
    ImageReader::with_format(Cursor::new(bytes), format)
        .decode()
        .map_err(reason)
}

/// Decodes one image.
fn decode(path: &Path, resize: Option<NonZeroU32>) -> Result<Decoded, String> {
    let mut image = open(path)?;
    if let Some(side) = resize.map(NonZeroU32::get)
        && (image.height(), image.width()) != (side, side)
    {
        image = image.resize_exact(side, side, FilterType::Triangle);
    }
    let size = Size {
        height: image.height(),
        width: image.width(),
    };
    let is_grey = matches!(
        image.color(),
        ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16
    );
    let values = if is_grey {
        image.into_luma8().into_raw()
    } else {
        image.into_rgb8().into_raw()
    };
    Ok(Decoded {
        size,
        is_grey,
        values,
    })
}

/// The size most images have; of two equally common ones the first to come.
fn usual_size(images: &[Result<Decoded, String>]) -> Option<Size> {
    let mut counts: Vec<(Size, usize)> = Vec::new();
    for image in images.iter().flatten() {
        match counts.iter_mut().find(|(size, _)| *size == image.size) {
            Some((_, count)) => *count += 1,
            None => counts.push((image.size, 1)),
        }
    }
    // `max_by_key` keeps the last of equals, hence from the back.
    counts
        .into_iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map(|(size, _)| size)
}

/// Lays images out as `[n, channels, height, width]`.
fn planes(images: impl Iterator<Item = Decoded>, num_images: usize, shape: ImageShape) -> Vec<u8> {
    let mut all = Vec::with_capacity(num_images * shape.image_len());
    for image in images {
        for channel in 0..shape.channels {
            if image.is_grey {
                all.extend_from_slice(&image.values);
            } else {
                all.extend(image.values.iter().skip(channel).step_by(3));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
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
}
