//! What a device of this host computes, as the trainer beside this program finds it out.

use std::process::Command;

use anyhow::{Context as _, Result};
use shared::exit::{Code, Failure};

use super::Finding;

/// Runs `trainer self-test` on the device.
///
/// # Errors
/// There is no trainer beside this program, or it cannot be started.
pub(super) fn test(device: &str) -> Result<Finding> {
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let trainer = this.with_file_name("trainer");
    if !trainer.is_file() {
        let message = format!(
            "cannot find `{}`: build all programs (`cargo build --release`)",
            trainer.display()
        );
        return Err(Failure::new(Code::Unforeseen, message).into());
    }
    let output = Command::new(&trainer)
        .args(["self-test", "--device", device])
        .output()
        .with_context(|| format!("cannot run `{}`", trainer.display()))?;
    Ok(finding(
        output.status.success(),
        &String::from_utf8_lossy(&output.stdout),
        &String::from_utf8_lossy(&output.stderr),
    ))
}

/// What the trainer says, in one line.
fn finding(passed: bool, said: &str, complained: &str) -> Finding {
    let lines = |text: &str| {
        let lines = text.lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        lines.join(" ")
    };
    if passed {
        Finding::Good(lines(said))
    } else {
        let reason = lines(complained);
        let reason = reason.strip_prefix("error: ").unwrap_or(&reason);
        Finding::Bad(format!("no trainer computes on this device: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_good_or_bad_in_the_trainer_s_words() {
        assert_eq!(
            finding(true, "emulated GPU: 17 operations\n", ""),
            Finding::Good("emulated GPU: 17 operations".to_owned())
        );
        let complaint = "error: cuda:0 computes wrongly and is not used\n  loss: off by 0.1\n";
        assert_eq!(
            finding(false, "", complaint),
            Finding::Bad(
                "no trainer computes on this device: cuda:0 computes wrongly and is not used loss: off by 0.1"
                    .to_owned()
            )
        );
    }
}
