//! Platforms and how an entry of an index fits one.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::ManifestError;

/// What an image runs on, in the words of Go (`GOOS`, `GOARCH`), as the OCI image index has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system: `linux`.
    pub os: String,
    /// Instruction set: `amd64`, `arm64`, `arm`, `riscv64`.
    pub architecture: String,
    /// Generation of the instruction set: `v7`. `None` is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Reads `os/architecture` or `os/architecture/variant`. The kernel's names of an architecture (`x86_64`,
    /// `aarch64`) are taken for Go's.
    ///
    /// # Errors
    /// [`ManifestError::Platform`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let refused = || ManifestError::Platform(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(word) {
            return Err(refused());
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(refused()),
        }
    }

    /// The platform that this program was compiled for.
    pub fn host() -> Self {
        let variant = if cfg!(target_arch = "arm") { Some("v7") } else { None };
        Self::new(std::env::consts::OS, std::env::consts::ARCH, variant)
    }

    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" | "i386" | "i686" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// How well an image for `offered` runs here: the smaller the better, `None` not at all.
    pub(super) fn fit(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let (wanted, offered) = (self.generation(), offered.generation());
        match (wanted, offered) {
            (wanted, offered) if wanted == offered => Some(0),
            // An older generation runs on a newer one, a newer one only by luck. Without a number there is no order.
            (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
            (Some(_), None) => Some(100),
            (None, Some(_)) if self.variant.is_none() => Some(200),
            (None, _) => None,
        }
    }

    /// The number of the variant. The one that an architecture means without any is none.
    fn generation(&self) -> Option<u32> {
        let number = self.variant.as_deref()?.strip_prefix('v')?.parse().ok()?;
        let usual = match self.architecture.as_str() {
            "arm64" => 8,
            "amd64" => 1,
            _ => 0,
        };
        (number != usual).then_some(number)
    }
}

/// `os/architecture[/variant]`.
impl Display for Platform {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn text_form_survives_a_round_trip() {
        for text in ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"] {
            assert_eq!(platform(text).to_string(), text);
        }
        assert_eq!(platform("linux/x86_64"), platform("linux/amd64"));
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(Platform::parse(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(Platform::host().os, "linux");
    }

    #[test]
    fn older_generations_fit_and_newer_do_not() {
        let fit = |wanted: &str, offered: &str| platform(wanted).fit(&platform(offered));
        assert_eq!(fit("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(fit("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(fit("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(fit("linux/amd64", "linux/arm64"), None);
        assert!(fit("linux/amd64", "linux/amd64") < fit("linux/amd64", "linux/amd64/v3"));
    }
}
