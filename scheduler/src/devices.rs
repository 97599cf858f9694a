//! How the trainers of one host share its GPUs.

use std::path::Path;

use shared::env;

/// Where the driver shows the GPUs: files `nvidia0`, `nvidia1`, …
const DEVICES: &str = "/dev";

/// The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them.
pub(crate) fn visible() -> Vec<String> {
    match env::CUDA_VISIBLE_DEVICES.raw() {
        Some(list) => named(&list),
        None => present(Path::new(DEVICES)),
    }
}

/// The GPUs that a value of `CUDA_VISIBLE_DEVICES` names: CUDA reads it up to the first name that cannot be.
fn named(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    let is_name = |name: &&str| {
        name.parse::<u32>().is_ok() || name.starts_with("GPU-") || name.starts_with("MIG-")
    };
    names.take_while(is_name).map(str::to_owned).collect()
}

/// All GPUs of this machine, numbered as CUDA does.
fn present(devices: &Path) -> Vec<String> {
    let names = shared::fs::list(devices).unwrap_or_default(); // no such folder: no GPUs
    let is_gpu = |name: &&String| {
        let number = name.strip_prefix("nvidia");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let count = names.iter().filter(is_gpu).count();
    (0..count).map(|number| number.to_string()).collect()
}

/// The GPUs of each of so many trainers; `None` where there are none to be shared.
///
/// Each has as many of its own as `each` says. Where that is not said it has one, which several trainers have in turn where
/// there are not enough.
///
/// # Errors
/// There are fewer than are asked for.
pub(crate) fn share(
    visible: &[String],
    trainers: usize,
    each: Option<usize>,
) -> Result<Option<Vec<Vec<String>>>, String> {
    let Some(each) = each else {
        if visible.is_empty() {
            return Ok(None);
        }
        let of_trainer = |number: usize| vec![visible[number % visible.len()].clone()];
        return Ok(Some((0..trainers).map(of_trainer).collect()));
    };
    let needed = trainers.saturating_mul(each);
    if needed > visible.len() {
        let found = match visible {
            [] => "none is visible here".to_owned(),
            visible => format!(
                "{} of them {} visible here ({})",
                visible.len(),
                if visible.len() == 1 { "is" } else { "are" },
                visible.join(", ")
            ),
        };
        return Err(format!(
            "--trainers {trainers} with --gpus-per-trainer {each} need {needed} GPUs, and {found}"
        ));
    }
    let of_trainer = |number: usize| visible[number * each..(number + 1) * each].to_vec();
    Ok(Some((0..trainers).map(of_trainer).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(visible: &str, trainers: usize, each: Option<usize>) -> Result<String, String> {
        let shares = share(&named(visible), trainers, each)?;
        Ok(shares.map_or_else(
            || "none".to_owned(),
            |shares| {
                let shares: Vec<String> = shares.iter().map(|share| share.join(",")).collect();
                shares.join(" ")
            },
        ))
    }

    #[test]
    fn trainers_have_gpus_of_their_own_as_far_as_there_are_enough() {
        for (visible, trainers, each, expected) in [
            ("0,1", 2, None, "0 1"),
            ("3,5,7", 2, None, "3 5"),
            ("GPU-a,MIG-b", 2, None, "GPU-a MIG-b"),
            ("2", 3, None, "2 2 2"),
            ("0,1", 3, None, "0 1 0"),
            ("", 2, None, "none"),
            ("0,1,2,3,4", 2, Some(2), "0,1 2,3"),
            ("0,1", 2, Some(0), " "),
            ("", 2, Some(0), " "),
        ] {
            let said = shared(visible, trainers, each);
            assert_eq!(
                said.as_deref(),
                Ok(expected),
                "{visible} {trainers} {each:?}"
            );
        }
        let said = shared("0,1,2", 2, Some(2)).unwrap_err();
        assert!(
            said.contains("need 4 GPUs, and 3 of them are visible here (0, 1, 2)"),
            "{said}"
        );
        let said = shared("", 1, Some(1)).unwrap_err();
        assert!(said.contains("need 1 GPUs, and none is visible"), "{said}");
    }

    #[test]
    fn names_count_up_to_the_first_that_cannot_be() {
        for (list, expected) in [
            ("0, 1", &["0", "1"][..]),
            ("0,-1,1", &["0"]),
            ("-1", &[]),
            ("NoDevFiles", &[]),
            ("", &[]),
            ("1,,2", &["1"]),
        ] {
            assert_eq!(named(list), expected, "{list}");
        }
    }

    #[test]
    fn gpus_are_counted_by_the_drivers_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "nvidia0",
            "nvidia3",
            "nvidiactl",
            "nvidia-uvm",
            "nvidia-caps",
            "null",
        ] {
            shared::fs::replace(&folder.path().join(name), b"").unwrap();
        }
        // In a container some of the files may be hidden; CUDA counts what is left.
        assert_eq!(present(folder.path()), ["0", "1"]);
        assert_eq!(present(Path::new("/no/such/folder")), [""; 0]);
    }
}
