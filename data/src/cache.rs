//! Decoded images of a folder, in one file in the user's cache folder.
//!
//! There is one file for each image folder and size. It is used only while the folder's files have the names, sizes
//! and modification times they had when it was written, and only if its content still has its digest; otherwise it is
//! replaced. A cache that cannot be written costs time, never a result.
//!
//! The file is a line of JSON ([`Header`]), then the training pixels, the training labels (16 bits, little-endian),
//! and the same of the test side.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::dataset::DatasetName;

use crate::dataset::{Dataset, Digest, ImageShape, Images};

const FORMAT: &str = "decoded-images";
/// 1: first.
const VERSION: u32 = 1;

/// The first line of a cache file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    /// What the images were decoded from.
    key: String,
    shape: ImageShape,
    class_names: Vec<String>,
    num_train: usize,
    num_test: Option<usize>,
    /// The data set's digest.
    digest: String,
}

/// The folder for cache files, if there is a place for one.
pub(crate) fn folder(setting: Option<&Path>) -> Option<PathBuf> {
    setting
        .map(Path::to_owned)
        .or_else(shared::env::cache_folder)
}

/// Identifies a folder, and the state its files are in.
pub(crate) struct Key {
    place: Sha256,
    state: Sha256,
}

impl Key {
    /// The key of a folder of which no file is known yet.
    pub(crate) fn new(root: &Path, resize: Option<NonZeroU32>) -> Self {
        let mut place = Sha256::new();
        // One file for the folder by whatever path it is reached; a path that cannot be resolved stands for itself.
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        place.update(root.as_os_str().as_bytes());
        place.update(resize.map_or(0, NonZeroU32::get).to_le_bytes());
        let state = place.clone();
        Self { place, state }
    }

    /// Adds a file with its size and its modification time in seconds and nanoseconds.
    pub(crate) fn add_file(&mut self, path: &Path, size: u64, modified: (i64, i64)) {
        let path = path.as_os_str().as_bytes();
        self.state.update((path.len() as u64).to_le_bytes());
        self.state.update(path);
        self.state.update(size.to_le_bytes());
        self.state
            .update([modified.0.to_le_bytes(), modified.1.to_le_bytes()].concat());
    }
}

/// The cache file of one folder.
pub(crate) struct Entry {
    path: PathBuf,
    key: String,
}

impl Entry {
    /// The file for these images; it need not exist.
    pub(crate) fn new(folder: &Path, key: Key) -> Self {
        let name = &Digest::of(key.place).to_string()[..16];
        Self {
            path: folder.join(format!("folder-{name}.images")),
            key: Digest::of(key.state).to_string(),
        }
    }

    /// The images, if they are there, whole, and of the folder as it is now.
    pub(crate) fn load(&self) -> Option<Dataset> {
        let path = self.path.display();
        match self.read() {
            Ok(Ok(dataset)) => {
                tracing::debug!("took decoded images from {path}");
                Some(dataset)
            }
            Ok(Err(reason)) => {
                tracing::info!("decoding again, since the cache {path} {reason}");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("decoding again, since the cache {path} cannot be read: {error}");
                None
            }
        }
    }

    /// Reads the file; the inner error says why its content is of no use.
    fn read(&self) -> io::Result<Result<Dataset, String>> {
        let file = File::open(&self.path)?;
        let len = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        let header: Header = match serde_json::from_slice(&line) {
            Ok(header) => header,
            Err(error) => return Ok(Err(format!("has no readable first line: {error}"))),
        };
        if (header.format.as_str(), header.version) != (FORMAT, VERSION) {
            return Ok(Err(format!(
                "has format {} {}",
                header.format, header.version
            )));
        }
        if header.key != self.key {
            return Ok(Err("is of another state of the folder".to_owned()));
        }
        let sides = [Some(header.num_train), header.num_test];
        // Before anything of the claimed size is allocated.
        let expected = header.content_len(&sides);
        if expected.and_then(|expected| expected.checked_add(line.len() as u64)) != Some(len) {
            return Ok(Err(format!("has the wrong size of {len} bytes")));
        }
        let train = read_images(&mut reader, header.num_train, header.shape)?;
        let test = header
            .num_test
            .map(|num| read_images(&mut reader, num, header.shape));
        let test = test.transpose()?;
        let num_classes = header.class_names.len();
        let labels = train
            .labels
            .iter()
            .chain(test.iter().flat_map(|test| &test.labels));
        if labels
            .into_iter()
            .any(|&label| usize::from(label) >= num_classes)
        {
            return Ok(Err("has labels without a class".to_owned()));
        }
        let name = DatasetName::Folder;
        let dataset = Dataset::new(name, train, test, header.shape, header.class_names);
        if dataset.digest().to_string() != header.digest {
            return Ok(Err(
                "is damaged: its digest is not that of its content".to_owned()
            ));
        }
        Ok(Ok(dataset))
    }

    /// Keeps the images; where that fails, says so in the log and leaves it at that.
    pub(crate) fn store(&self, dataset: &Dataset) {
        let path = self.path.display();
        match self.write(dataset) {
            Ok(()) => tracing::info!("kept decoded images in {path}"),
            Err(error) => {
                tracing::warn!("going on without a cache, since {path} cannot be written: {error}");
            }
        }
    }

    fn write(&self, dataset: &Dataset) -> Result<(), shared::Error> {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            key: self.key.clone(),
            shape: dataset.shape,
            class_names: dataset.class_names.clone(),
            num_train: dataset.train.len(),
            num_test: dataset.test.as_ref().map(Images::len),
            digest: dataset.digest().to_string(),
        };
        let mut bytes = serde_json::to_vec(&header).expect("numbers and text are JSON");
        bytes.push(b'\n');
        for side in std::iter::once(&dataset.train).chain(&dataset.test) {
            bytes.extend_from_slice(&side.pixels);
            bytes.extend(side.labels.iter().flat_map(|label| label.to_le_bytes()));
        }
        shared::fs::replace(&self.path, &bytes)
    }
}

impl Header {
    /// Bytes after the first line; `None` where that is no number.
    fn content_len(&self, sides: &[Option<usize>]) -> Option<u64> {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let image_len = channels.checked_mul(height)?.checked_mul(width)?;
        // Two bytes more for the label.
        let item_len = image_len.checked_add(2)?;
        let num = sides
            .iter()
            .flatten()
            .try_fold(0_usize, |all, &num| all.checked_add(num))?;
        u64::try_from(num.checked_mul(item_len)?).ok()
    }
}

fn read_images(reader: &mut impl Read, num: usize, shape: ImageShape) -> io::Result<Images> {
    let mut pixels = vec![0; num * shape.image_len()];
    reader.read_exact(&mut pixels)?;
    let mut labels = vec![0; 2 * num];
    reader.read_exact(&mut labels)?;
    let labels = labels
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Ok(Images {
        pixels,
        labels: labels.collect(),
    })
}
