//! Reads content of a known length from files that may be shorter or longer than they should be.
//!
//! Memory grows with the bytes that are there, never with a length that some header claims.

use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Found};

/// Reads so many bytes, and no more.
pub(crate) fn read(
    reader: &mut impl Read,
    path: &Path,
    content: &'static str,
    expected: u64,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    match reader.take(expected).read_to_end(&mut bytes) {
        Err(source) if source.kind() != io::ErrorKind::UnexpectedEof => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
        // A gzip stream that stops early is a short file.
        _ if bytes.len() as u64 == expected => Ok(bytes),
        _ => {
            let found = Found::Exactly(bytes.len() as u64);
            Err(Error::WrongSize {
                path: path.to_owned(),
                content,
                expected,
                found,
            })
        }
    }
}

/// Reads so many bytes and makes sure that the reader ends there.
pub(crate) fn read_to_end(
    reader: &mut impl Read,
    path: &Path,
    content: &'static str,
    expected: u64,
) -> Result<Vec<u8>, Error> {
    let bytes = read(reader, path, content, expected)?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(bytes),
        Ok(_) => {
            let path = path.to_owned();
            Err(Error::WrongSize {
                path,
                content,
                expected,
                found: Found::More,
            })
        }
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8], expected: u64) -> Result<usize, Found> {
        match read_to_end(&mut &bytes[..], Path::new("file"), "items", expected) {
            Ok(bytes) => Ok(bytes.len()),
            Err(Error::WrongSize { found, .. }) => Err(found),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn only_the_exact_length_is_accepted() {
        assert_eq!(found(&[0; 5], 5), Ok(5));
        assert_eq!(found(&[0; 4], 5), Err(Found::Exactly(4)));
        assert_eq!(found(&[0; 6], 5), Err(Found::More));
    }

    #[test]
    fn an_absurd_length_costs_no_memory() {
        assert_eq!(found(&[0; 6], u64::MAX), Err(Found::Exactly(6)));
    }
}
