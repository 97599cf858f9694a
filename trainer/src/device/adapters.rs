//! Which of the devices that Vulkan's drivers offer is used, whether our kernels fit it, and what its memory is.

/// What a device is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// The processor, behind a driver such as Mesa's lavapipe.
    Software,
}

/// One of the devices: its kind, and its number among those of its kind, from 0, in the drivers' order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) kind: Kind,
    pub(super) number: u16,
}

/// Chooses among devices: those of the best kind are had in turn by a host's trainers, which are numbered from 0.
///
/// `None` if there are none; the processor is taken only where that is asked for, and nothing else is there.
pub(super) fn choose(kinds: &[Kind], or_software: bool, trainer: u64) -> Option<Chosen> {
    let may_be = |kind: &&Kind| or_software || **kind != Kind::Software;
    let kind = *kinds.iter().filter(may_be).min()?;
    let count = kinds.iter().filter(|other| **other == kind).count();
    let number = match kind {
        Kind::Software => 0, // cubecl knows the first one alone
        _ => trainer % count as u64,
    };
    let number = u16::try_from(number).ok()?; // of more devices than any machine has
    Some(Chosen { kind, number })
}

/// What a device allows a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Arrays, among them one with the sizes of the others.
    pub(super) arrays: u32,
    /// Units of a cube.
    pub(super) units: u32,
    /// Bytes that the units of a cube share.
    pub(super) shared_bytes: u32,
}

/// What our kernels need: batch norm has ten arrays, and both tiles of a product are shared by 256 units.
const NEEDED: Limits = Limits {
    arrays: 12,
    units: 256,
    shared_bytes: 16 << 10,
};

impl Limits {
    /// What is too little for our kernels, in words.
    pub(super) fn shortcoming(self) -> Option<String> {
        [
            (self.arrays, NEEDED.arrays, "storage buffers"),
            (self.units, NEEDED.units, "invocations of a workgroup"),
            (
                self.shared_bytes,
                NEEDED.shared_bytes,
                "bytes of shared memory",
            ),
        ]
        .into_iter()
        .find(|(found, needed, _)| found < needed)
        .map(|(found, needed, what)| format!("{found} {what}, of {needed} that are needed"))
    }
}

/// A part of the memory that a driver hands out, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heap {
    /// Whether it is the device's own, or as near.
    pub(super) is_local: bool,
    pub(super) size: u64,
    /// What this process can still have of it, if the driver says so.
    pub(super) free: Option<u64>,
}

fn sum(heaps: &[Heap], bytes: impl Fn(&Heap) -> u64) -> Option<u64> {
    let local: Vec<u64> = heaps
        .iter()
        .filter(|heap| heap.is_local)
        .map(bytes)
        .collect();
    (!local.is_empty()).then(|| local.into_iter().fold(0, u64::saturating_add))
}

/// Bytes of a device's own memory; `None` where it has none, or nobody says.
pub(super) fn total(kind: Kind, heaps: &[Heap]) -> Option<u64> {
    match kind {
        Kind::Discrete | Kind::Virtual => sum(heaps, |heap| heap.size),
        Kind::Integrated | Kind::Software => None,
    }
}

/// Bytes that can still be allocated at most, where so many are free on the host; `None` where nobody says.
pub(super) fn available(kind: Kind, heaps: &[Heap], host: Option<u64>) -> Option<u64> {
    let free = sum(heaps, |heap| heap.free.unwrap_or(heap.size));
    match kind {
        Kind::Discrete | Kind::Virtual => free,
        Kind::Integrated | Kind::Software => match (free, host) {
            (Some(free), Some(host)) => Some(free.min(host)),
            (free, host) => free.or(host),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Discrete, Integrated, Software, Virtual};

    fn chosen(kinds: &[Kind], or_software: bool, trainer: u64) -> Option<(Kind, u16)> {
        choose(kinds, or_software, trainer).map(|Chosen { kind, number }| (kind, number))
    }

    #[test]
    fn the_trainers_of_a_host_have_the_best_devices_in_turn() {
        let two = [Integrated, Discrete, Software, Discrete];
        let numbers = (0..5).map(|trainer| chosen(&two, false, trainer));
        let expected = [0, 1, 0, 1, 0].map(|number| Some((Discrete, number)));
        assert!(numbers.eq(expected));
        assert_eq!(
            chosen(&[Software, Integrated], true, 3),
            Some((Integrated, 0))
        );
        assert_eq!(chosen(&[Virtual], false, 7), Some((Virtual, 0)));
    }

    #[test]
    fn the_processor_is_taken_only_where_it_is_asked_for_and_alone() {
        assert_eq!(chosen(&[Software], false, 0), None);
        assert_eq!(chosen(&[Software, Software], true, 1), Some((Software, 0)));
        assert_eq!(chosen(&[Software, Virtual], true, 1), Some((Virtual, 0)));
        assert_eq!(chosen(&[], true, 0), None);
    }

    #[test]
    fn what_is_too_little_is_named() {
        assert_eq!(NEEDED.shortcoming(), None);
        let few = Limits {
            arrays: 8,
            ..NEEDED
        };
        assert_eq!(
            few.shortcoming().unwrap(),
            "8 storage buffers, of 12 that are needed"
        );
        let small = Limits {
            units: 128,
            ..NEEDED
        };
        assert!(small.shortcoming().unwrap().contains("workgroup"));
    }

    #[test]
    fn memory_is_the_device_s_own_or_the_host_s_or_unknown() {
        let heap = |is_local, size, free| Heap {
            is_local,
            size,
            free,
        };
        // As RADV has them: what the processor sees of the GPU's memory is a heap of its own.
        let card = [
            heap(true, 700, Some(600)),
            heap(false, 900, Some(900)),
            heap(true, 50, None),
        ];
        assert_eq!(total(Discrete, &card), Some(750));
        assert_eq!(available(Discrete, &card, Some(10)), Some(650));
        assert_eq!(total(Integrated, &card), None);
        assert_eq!(available(Software, &card, Some(10)), Some(10));
        assert_eq!(available(Integrated, &card, None), Some(650));
        assert_eq!(
            (total(Discrete, &[]), available(Discrete, &[], None)),
            (None, None)
        );
    }
}
