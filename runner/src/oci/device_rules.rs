//! Rules about devices (`linux.resources.devices`) as a program on the control group: for each kind of access the last rule
//! about a device counts.
//!
//! ```text
//! r2 type   r3 what is still asked for   r4, r5 numbers
//! from the last rule to the first:   another device → next rule
//!     allow: r3 loses what is allowed; nothing is left → yes        deny: r3 has what is denied → no
//! at the end: no
//! ```

use super::config::DeviceRule;
use crate::error::Error;
use crate::sys::bpf::Instruction;

/// Access of `linux/bpf.h`.
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ANY: i32 = MAKE | READ | WRITE;
/// Types of `linux/bpf.h`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Operations of `linux/bpf.h`.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
const UNLESS_EQUAL: u8 = 0x55;
const IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// A rule in the kernel's terms; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    is_allowed: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

/// What every container may do: make nodes, and open those that it is given and its terminals.
fn usual() -> impl Iterator<Item = Rule> {
    let allow = |kind, major, minor, access| Rule { is_allowed: true, kind: Some(kind), major, minor, access };
    let nodes =
        [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];
    [BLOCK, CHARACTER]
        .map(|kind| allow(kind, None, None, MAKE))
        .into_iter()
        .chain(nodes.map(|(major, minor)| allow(CHARACTER, Some(major), minor, ANY)))
}

impl Rule {
    fn of(rule: &DeviceRule) -> Result<Self, Error> {
        let refused = |reason: String| Error::Refused(format!("linux.resources.devices: {reason}"));
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("b") => Some(BLOCK),
            Some("c" | "u") => Some(CHARACTER),
            Some(other) => return Err(refused(format!("the type {other:?} is not known"))),
        };
        let number = |wish: Option<i64>| match wish {
            None | Some(..0) => Ok(None),
            Some(number) => {
                i32::try_from(number).map(Some).map_err(|_| refused(format!("{number} is no number of a device")))
            }
        };
        let mut access = 0;
        for letter in rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                other => return Err(refused(format!("the access {other:?} is not known"))),
            };
        }
        Ok(Self { is_allowed: rule.allow, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
    }

    /// Whether it is about every access to every device.
    fn covers_all(&self) -> bool {
        *self == Self { is_allowed: self.is_allowed, kind: None, major: None, minor: None, access: ANY }
    }

    fn assemble(&self, program: &mut Vec<Instruction>) {
        let mut own = Vec::new();
        let differs = |register, value| step(UNLESS_EQUAL, register, value);
        own.extend(self.kind.map(|kind| differs(2, kind)));
        own.extend(self.major.map(|major| differs(4, major)));
        own.extend(self.minor.map(|minor| differs(5, minor)));
        match (self.is_allowed, self.access) {
            (_, ANY) => {}
            (true, access) => own.extend([step(AND, 3, !access), differs(3, 0)]),
            (false, access) => {
                own.extend([
                    Instruction { registers: 0x36, ..step(COPY, 6, 0) },
                    step(AND, 6, access),
                    step(IF_EQUAL, 6, 0),
                ]);
            }
        }
        own.extend([step(MOVE, 0, i32::from(self.is_allowed)), step(EXIT, 0, 0)]);
        // What does not fit goes on behind the rule.
        let length = own.len();
        for (place, instruction) in own.iter_mut().enumerate() {
            if [UNLESS_EQUAL, IF_EQUAL].contains(&instruction.code) {
                instruction.offset = i16::try_from(length - place - 1).unwrap_or(i16::MAX);
            }
        }
        program.extend(own);
    }
}

/// The program for rules. `None` where they leave everything open.
///
/// # Errors
/// [`Error::Refused`] for a rule that is not understood.
pub(super) fn program(rules: &[DeviceRule]) -> Result<Option<Vec<Instruction>>, Error> {
    let own = rules.iter().map(Rule::of).collect::<Result<Vec<_>, _>>()?;
    let last = own.iter().rposition(Rule::covers_all);
    // Before the last one that covers everything nothing counts.
    let (is_open, own) = last.map_or((false, own.as_slice()), |last| (own[last].is_allowed, &own[last + 1..]));
    if is_open && own.iter().all(|rule| rule.is_allowed) {
        return Ok(None);
    }
    let mut program =
        vec![load(2, 0), step(AND, 2, 0xffff), load(3, 0), step(SHIFT_RIGHT, 3, 16), load(4, 4), load(5, 8)];
    own.iter().rev().for_each(|rule| rule.assemble(&mut program));
    if !is_open {
        usual().for_each(|rule| rule.assemble(&mut program));
    }
    program.extend([step(MOVE, 0, i32::from(is_open)), step(EXIT, 0, 0)]);
    Ok(Some(program))
}

fn step(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

/// Loads a word of what is asked (`struct bpf_cgroup_dev_ctx`, by register 1).
fn load(register: u8, offset: i16) -> Instruction {
    Instruction { registers: register | 0x10, offset, ..step(LOAD_WORD, register, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says, as the kernel would run it.
    fn asks(rules: &str, kind: i32, (major, minor): (i32, i32), access: i32) -> bool {
        let rules: Vec<DeviceRule> = serde_json::from_str(rules).unwrap();
        let Some(program) = program(&rules).unwrap() else { return true };
        let context = [kind | access << 16, major, minor];
        let (mut registers, mut at) = ([0_i32; 7], 0);
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (target, source) = (usize::from(names & 0xf), usize::from(names >> 4));
            let jump = usize::try_from(offset).unwrap();
            at += 1;
            match code {
                LOAD_WORD => registers[target] = context[jump / 4],
                AND => registers[target] &= immediate,
                SHIFT_RIGHT => registers[target] >>= immediate,
                MOVE => registers[target] = immediate,
                COPY => registers[target] = registers[source],
                UNLESS_EQUAL => at += if registers[target] == immediate { 0 } else { jump },
                IF_EQUAL => at += if registers[target] == immediate { jump } else { 0 },
                EXIT => return registers[0] == 1,
                other => panic!("{other:x}"),
            }
        }
    }

    const CLOSED: &str = r#"{"allow":false,"access":"rwm"}"#;

    #[test]
    fn without_rules_the_usual_devices_can_be_opened_and_nodes_made() {
        for rules in ["[]".to_owned(), format!("[{CLOSED}]")] {
            assert!(asks(&rules, CHARACTER, (1, 3), READ | WRITE) && asks(&rules, CHARACTER, (136, 7), READ));
            assert!(asks(&rules, BLOCK, (8, 0), MAKE));
            assert!(!asks(&rules, BLOCK, (8, 0), READ) && !asks(&rules, CHARACTER, (10, 229), WRITE));
        }
    }

    #[test]
    fn the_last_rule_about_an_access_counts() {
        let rules = format!(
            r#"[{CLOSED},{{"allow":true,"type":"c","major":10,"minor":229,"access":"r"}},
            {{"allow":true,"type":"c","major":10,"access":"w"}},{{"allow":false,"type":"c","major":1,"minor":3,"access":"w"}}]"#
        );
        assert!(asks(&rules, CHARACTER, (10, 229), READ | WRITE), "each by a rule of its own");
        assert!(!asks(&rules, CHARACTER, (10, 228), READ | WRITE) && asks(&rules, CHARACTER, (10, 228), WRITE));
        assert!(asks(&rules, CHARACTER, (1, 3), READ) && !asks(&rules, CHARACTER, (1, 3), READ | WRITE));
        assert!(!asks(&rules, BLOCK, (10, 229), READ));
    }

    #[test]
    fn what_is_open_needs_no_program_unless_something_is_denied() {
        let open = r#"{"allow":true,"type":"a","access":"rwm"}"#;
        let of = |text: String| program(&serde_json::from_str::<Vec<DeviceRule>>(&text).unwrap());
        assert_eq!(of(format!("[{CLOSED},{open}]")).unwrap(), None);
        let denied = format!(r#"[{open},{{"allow":false,"type":"b","major":8}}]"#);
        assert!(!asks(&denied, BLOCK, (8, 1), READ) && asks(&denied, BLOCK, (9, 1), READ));
        assert!(!asks(&format!("[{open},{CLOSED}]"), BLOCK, (9, 1), READ));
        for unknown in [r#"[{"type":"x"}]"#, r#"[{"access":"q"}]"#, r#"[{"major":4294967296}]"#] {
            assert!(of(unknown.to_owned()).is_err(), "{unknown}");
        }
    }
}
