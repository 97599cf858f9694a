//! A training's state as one block of bytes that describes itself.
//!
//! The bytes are a safetensors file: eight bytes of length, a JSON header naming every tensor with type, shape and
//! place, then the numbers, little-endian. PyTorch, numpy and others read it as it is. The tensors are `network.…`
//! (weights and running statistics), `velocity.…`, `squares.…` and `average.…` (the optimizer's); the header's metadata hold `format`, `version`
//! and, as JSON in a string, `training`: whose training it is and how far it has come. burn's own records would do as
//! well for resuming, but they are tied to burn's version and to nothing else's reader.
//!
//! # Versions
//! - 1.0: the first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What the metadata call this format.
const FORMAT: &str = "tandem-checkpoint";
/// Major and minor version; see the module's documentation.
const VERSION: [u32; 2] = [1, 0];

/// Why bytes are no checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They end too early, or have something behind the end.
    #[error("{found} bytes where the header promises {expected}")]
    Length {
        /// What the header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The header is not what it should be.
    #[error("the header is not a checkpoint's")]
    Header {
        /// Why.
        source: serde_json::Error,
    },
    /// Another format, or a version that this program does not read.
    #[error("format `{format}`, version `{version}`, where `{FORMAT}` 1.x is read")]
    Version {
        /// The format it says it has.
        format: String,
        /// The version it says it has.
        version: String,
    },
    /// Numbers of a type that is not read.
    #[error("tensor `{name}` is of type `{dtype}`, where `F32` is read")]
    Type {
        /// The tensor's name.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor is missing or has another shape.
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Tensor {
        /// Its name.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The checkpoint's, if it has the tensor at all.
        found: Option<Vec<usize>>,
    },
}

/// Numbers with a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// As in the network.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// Arrays by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arrays(pub BTreeMap<String, Array>);

impl Arrays {
    /// Takes out the values of a tensor of the given shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        match self.0.remove(name) {
            Some(array) if array.shape == shape => Ok(array.values),
            other => Err(Error::Tensor {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: other.map(|array| array.shape),
            }),
        }
    }
}

/// Where a tensor's numbers lie.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Writes a checkpoint; `training` is anything that tells how far the training has come.
///
/// # Panics
/// If `training` is not plain data: a map whose keys are no strings, for example.
pub fn encode(arrays: &Arrays, training: &impl Serialize) -> Vec<u8> {
    let training = serde_json::to_string(training).expect("the state of a training is plain data");
    let metadata = json!({
        "format": FORMAT,
        "version": format!("{}.{}", VERSION[0], VERSION[1]),
        "training": training,
    });
    write(arrays, metadata)
}

/// Writes a safetensors file.
pub fn write(arrays: &Arrays, metadata: Value) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), metadata);
    let mut offset = 0;
    for (name, Array { shape, values }) in &arrays.0 {
        let end = offset + 4 * values.len() as u64;
        let entry = Entry {
            dtype: "F32".to_owned(),
            shape: shape.clone(),
            data_offsets: [offset, end],
        };
        header.insert(name.clone(), json!(entry));
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Readers that map the file want numbers at multiples of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&header);
    for array in arrays.0.values() {
        bytes.extend(array.values.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

/// Reads a checkpoint.
///
/// # Errors
/// The bytes are no checkpoint, or one of a version that is not known.
pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<(Arrays, T), Error> {
    let (arrays, metadata) = read(bytes)?;
    let text = |name: &str| metadata[name].as_str().unwrap_or("none").to_owned();
    let (format, version) = (text("format"), text("version"));
    if format != FORMAT || version.split('.').next() != Some("1") {
        return Err(Error::Version { format, version });
    }
    let training = serde_json::from_str(&text("training"));
    Ok((arrays, training.map_err(|source| Error::Header { source })?))
}

/// Reads a safetensors file of single-precision numbers, with its metadata.
///
/// # Errors
/// The bytes are none.
pub fn read(bytes: &[u8]) -> Result<(Arrays, Value), Error> {
    let found = bytes.len() as u64;
    let too_short = |expected: u64| Error::Length { expected, found };
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or(too_short(8))?;
    let length = u64::from_le_bytes(*length);
    let data_start = length.saturating_add(8);
    let (header, data) = usize::try_from(length)
        .ok() // too large for this machine, and so for these bytes
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(too_short(data_start))?;
    let header_error = |source| Error::Header { source };
    let mut header: Map<String, Value> = serde_json::from_slice(header).map_err(header_error)?;
    let metadata = header.remove("__metadata__").unwrap_or_default();
    let mut arrays = Arrays::default();
    let mut end_of_data = 0;
    for (name, entry) in header {
        let Entry {
            dtype,
            shape,
            data_offsets: [start, end],
        } = serde_json::from_value(entry).map_err(header_error)?;
        if dtype != "F32" {
            return Err(Error::Type { name, dtype });
        }
        end_of_data = end_of_data.max(end);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok()); // as above
        let values = range
            .and_then(|(start, end)| data.get(start..end))
            .filter(|values| Some(values.len()) == bytes_of(&shape))
            .ok_or(too_short(data_start.saturating_add(end)))?;
        let (values, _) = values.as_chunks::<4>();
        let values = values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        arrays.0.insert(name, Array { shape, values });
    }
    let expected = data_start.saturating_add(end_of_data);
    if expected == found {
        Ok((arrays, metadata))
    } else {
        Err(too_short(expected))
    }
}

/// Bytes of an array, if a machine could have so many.
fn bytes_of(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(4usize, |bytes, &len| bytes.checked_mul(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arrays() -> Arrays {
        let array = |shape: &[usize]| {
            let values = (0..shape.iter().product())
                .map(|i: usize| i as f32 - 0.5)
                .collect();
            Array {
                shape: shape.to_vec(),
                values,
            }
        };
        Arrays(BTreeMap::from([
            ("network.a".to_owned(), array(&[2, 3])),
            ("network.b".to_owned(), array(&[])),
            ("velocity.a".to_owned(), array(&[4])),
        ]))
    }

    #[test]
    fn a_checkpoint_reads_back_exactly() {
        let bytes = encode(&arrays(), &json!({"step": 7, "spent": 0.1}));
        let (read, training): (Arrays, Value) = decode(&bytes).unwrap();
        assert_eq!(read, arrays());
        assert_eq!(training, json!({"step": 7, "spent": 0.1}));
    }

    #[test]
    fn not_finite_numbers_survive() {
        let values = vec![f32::INFINITY, f32::MIN_POSITIVE / 2.0, -0.0];
        let array = Array {
            shape: vec![3],
            values: values.clone(),
        };
        let bytes = encode(&Arrays(BTreeMap::from([("x".to_owned(), array)])), &());
        let (mut read, ()) = decode(&bytes).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.take("x", &[3]).unwrap()), bits(&values));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = encode(&arrays(), &json!({"step": 7}));
        for len in 0..bytes.len() {
            assert!(
                decode::<Value>(&bytes[..len]).is_err(),
                "{len} of {} bytes",
                bytes.len()
            );
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(
            decode::<Value>(&longer),
            Err(Error::Length { .. })
        ));
    }

    #[test]
    fn another_format_or_major_version_is_refused() {
        for (from, to) in [
            ("tandem-checkpoint", "tandem-checkpoinf"),
            ("\"1.0\"", "\"2.0\""),
        ] {
            let mut bytes = encode(&arrays(), &());
            let at = bytes
                .windows(from.len())
                .position(|w| w == from.as_bytes())
                .unwrap();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            assert!(
                matches!(decode::<()>(&bytes), Err(Error::Version { .. })),
                "{to}"
            );
        }
    }

    #[test]
    fn a_tensor_of_another_shape_is_refused() {
        let error = arrays().take("network.a", &[3, 2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor `network.a`: expected shape [3, 2], found Some([2, 3])"
        );
        assert!(arrays().take("network.c", &[1]).is_err());
    }

    proptest! {
        #[test]
        fn noise_is_no_checkpoint_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<Value>(&bytes).is_err());
        }
    }
}
