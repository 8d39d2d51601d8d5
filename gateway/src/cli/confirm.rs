//! Asking before something is deleted or suspended.

use clap::Args;
use std::io::{self, BufRead, IsTerminal, Write};

/// Whether to ask.
#[derive(Debug, Args)]
pub(super) struct Confirm {
    /// Don't ask. At a terminal the command asks first; without one, as in a script, it does nothing unless this is given.
    #[arg(long, short)]
    yes: bool,
}

impl Confirm {
    /// Goes on if the operator wants `what` done.
    ///
    /// # Errors
    /// When the answer is no, and when nobody can be asked.
    pub(super) fn check(&self, what: &str) -> Result<(), String> {
        self.check_with(what, io::stdin().is_terminal(), &mut io::stdin().lock(), &mut io::stderr())
    }

    fn check_with(
        &self,
        what: &str,
        terminal: bool,
        input: &mut impl BufRead,
        output: &mut impl Write,
    ) -> Result<(), String> {
        if self.yes {
            return Ok(());
        }
        if !terminal {
            return Err(format!("to {what} without being asked, give --yes"));
        }
        let cannot = |error: io::Error| format!("can't ask: {error}");
        write!(output, "Really {what}? [y/N] ").and_then(|()| output.flush()).map_err(cannot)?;
        let mut answer = String::new();
        input.read_line(&mut answer).map_err(cannot)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err("nothing was done".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yes: bool, terminal: bool, answer: &str) -> (Result<(), String>, String) {
        let mut asked = Vec::new();
        let done = Confirm { yes }.check_with("delete tenant acme", terminal, &mut answer.as_bytes(), &mut asked);
        (done, String::from_utf8(asked).unwrap())
    }

    #[test]
    fn a_terminal_is_asked_and_only_yes_is_yes() {
        for answer in ["y\n", "Yes\n", " YES "] {
            assert_eq!(check(false, true, answer), (Ok(()), "Really delete tenant acme? [y/N] ".into()));
        }
        for answer in ["", "\n", "n\n", "yess\n", "acme\n"] {
            assert!(check(false, true, answer).0.is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_script_has_to_say_yes() {
        let (done, asked) = check(false, false, "y\n");
        assert!(done.unwrap_err().contains("--yes") && asked.is_empty());
        assert_eq!(check(true, false, ""), (Ok(()), String::new()));
        assert_eq!(check(true, true, ""), (Ok(()), String::new()));
    }
}
