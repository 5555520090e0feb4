//! Signals as command lines and images name them.

use nix::libc;
use nix::sys::signal::Signal;

/// The number of a signal: `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`.
pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(libc::SIGRTMIN()),
        (Some(more), _) => Some(libc::SIGRTMIN() + more.strip_prefix('+')?.parse::<i32>().ok()?),
        (_, Some("")) => Some(libc::SIGRTMAX()),
        (_, Some(less)) => Some(libc::SIGRTMAX() - less.strip_prefix('-')?.parse::<i32>().ok()?),
        _ => None,
    };
    match real_time {
        Some(number) => (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number),
        None => format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, wanted) in
            [("TERM", 15), ("SIGKILL", 9), ("kill", 9), ("9", 9), ("SIGRTMIN+3", libc::SIGRTMIN() + 3)]
        {
            assert_eq!(number(text), Some(wanted), "{text}");
        }
        for text in ["", "0", "99", "SIG", "NOPE", "RTMIN-1", "RTMIN+99"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
