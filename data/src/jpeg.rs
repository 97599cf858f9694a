//! Whether a JPEG file goes on to its end: the decoder fills what is missing of a cut-off image with grey and says
//! nothing, and grey halves would be trained on.
//!
//! # Source
//! ITU-T T.81 (JPEG), annex B: markers, segments, and the zero byte after a 0xff in coded data.

const END_OF_IMAGE: u8 = 0xd9;

/// Whether the file has an end-of-image marker of its own, not only one of a preview in its header.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    // Coded data have no length: the next marker is the next 0xff that is not escaped.
    while let Some(start) = rest
        .windows(2)
        .position(|pair| pair[0] == 0xff && pair[1] != 0xff)
    {
        let marker = rest[start + 1];
        rest = &rest[start + 2..];
        match marker {
            END_OF_IMAGE => return true,
            // An escaped 0xff, a restart, the start of the image: these have no segment.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let &[high, low, ..] = rest else { return false };
                let len = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(len..).unwrap_or_default();
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, a header segment with a whole preview inside, a scan with an escaped 0xff and a restart.
    const CUT_OFF: &[u8] =
        b"\xff\xd8\xff\xe1\x00\x06\xff\xd8\xff\xd9\xff\xda\x00\x03\x00abc\xff\x00d\xff\xd0ef";

    #[test]
    fn the_end_of_a_preview_is_not_the_end_of_the_image() {
        assert!(!is_whole(CUT_OFF));
        assert!(is_whole(&[CUT_OFF, b"\xff\xd9"].concat()));
    }

    #[test]
    fn what_follows_the_end_does_not_matter() {
        assert!(is_whole(
            &[CUT_OFF, b"\xff\xff\xd9 trailer \xff\xda"].concat()
        ));
    }

    #[test]
    fn no_prefix_is_whole() {
        let whole = [CUT_OFF, b"\xff\xd9"].concat();
        assert!((0..whole.len()).all(|len| !is_whole(&whole[..len])));
    }
}
