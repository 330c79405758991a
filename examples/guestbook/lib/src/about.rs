//! Who this instance is.
//!
//! In: environment variables and the folder of secrets. Out: an [`About`], or a
//! sentence saying which variable is wrong. Never: the value of a secret in a message.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What the environment says about this instance.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// `SLIPWAY_SERVICE`, or the program's own name.
    pub service: String,
    /// `SLIPWAY_RELEASE`; none when somebody starts the program by hand.
    pub release: Option<String>,
    /// `SLIPWAY_INSTANCE`; none when started by hand.
    pub instance: Option<String>,
    /// `GREETING`: configuration, so each environment may have its own.
    pub greeting: String,
    /// `PORT`: where to listen.
    pub port: u16,
}

impl About {
    /// Reads the real environment.
    pub fn from_env(program: &str, default_port: u16) -> Result<About, String> {
        About::read(program, default_port, |name| std::env::var(name).ok())
    }

    fn read(program: &str, default_port: u16, variable: impl Fn(&str) -> Option<String>) -> Result<About, String> {
        // An empty variable counts as absent.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let port = match variable("PORT") {
            None => default_port,
            Some(text) => text.parse().map_err(|_| format!("`PORT` must be a number from 0 to 65535, not `{text}`"))?,
        };
        Ok(About {
            service: variable("SLIPWAY_SERVICE").unwrap_or_else(|| program.to_owned()),
            release: variable("SLIPWAY_RELEASE"),
            instance: variable("SLIPWAY_INSTANCE"),
            greeting: variable("GREETING").unwrap_or_else(|| "Hello".to_owned()),
            port,
        })
    }

    /// The release id, or `local`.
    pub fn release_or_local(&self) -> &str {
        self.release.as_deref().unwrap_or("local")
    }
}

/// A secret is a file that Slipway puts into `/run/secrets`. None when there is
/// no such file; an error when it cannot be read or is empty.
pub fn secret(folder: &Path, name: &str) -> Result<Option<String>, String> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) if text.trim().is_empty() => Err(format!("secret `{name}` is empty")),
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read secret `{name}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<About, String> {
        About::read("api", 8080, |wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn started_by_hand_it_takes_the_defaults() {
        let about = read(&[]).unwrap();
        assert_eq!((about.service.as_str(), about.port), ("api", 8080));
        assert_eq!(about.release_or_local(), "local");
    }

    #[test]
    fn slipway_says_port_release_and_instance() {
        let given = [("PORT", "3000"), ("SLIPWAY_RELEASE", "34e57f01"), ("SLIPWAY_INSTANCE", "i-7")];
        let about = read(&given).unwrap();
        assert_eq!(about.port, 3000);
        assert_eq!(about.release_or_local(), "34e57f01");
        assert_eq!(about.instance.as_deref(), Some("i-7"));
    }

    #[test]
    fn a_port_that_is_no_number_is_named_in_the_error() {
        let error = read(&[("PORT", "http")]).unwrap_err();
        assert_eq!(error, "`PORT` must be a number from 0 to 65535, not `http`");
    }

    #[test]
    fn a_secret_is_optional_but_never_empty() {
        let folder = std::env::temp_dir().join(format!("guestbook-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("KEY"), "open sesame\n").unwrap();
        fs::write(folder.join("EMPTY"), "\n").unwrap();
        assert_eq!(secret(&folder, "KEY"), Ok(Some("open sesame".to_owned())));
        assert_eq!(secret(&folder, "ABSENT"), Ok(None));
        assert_eq!(secret(&folder, "EMPTY"), Err("secret `EMPTY` is empty".to_owned()));
        fs::remove_dir_all(&folder).unwrap();
    }
}
