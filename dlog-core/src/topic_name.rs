//! [`TopicName`]: a checked name of a topic, cheap to copy.

use crate::limits::TOPIC_NAME_BYTES_MAX;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What names of dlog's own topics begin with. Clients can't create or delete those.
pub const RESERVED_PREFIX: &str = "__";

/// A topic's name: 1 to [`TOPIC_NAME_BYTES_MAX`] of `[A-Za-z0-9._-]`, not `.` or `..`. It is shared, so a clone allocates
/// nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a string can't name a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// It has no bytes.
    #[error("a topic's name is empty; give it 1 to {TOPIC_NAME_BYTES_MAX} of A-Z a-z 0-9 . _ -")]
    Empty,
    /// It has too many bytes.
    #[error("a topic's name has {bytes} bytes, at most {TOPIC_NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// What it has.
        bytes: usize,
    },
    /// It has a character that isn't allowed.
    #[error("a topic's name has the character {character:?}; only A-Z a-z 0-9 . _ - are allowed")]
    Character {
        /// The first such character.
        character: char,
    },
    /// It is `.` or `..`.
    #[error("a topic can't be named {0:?}: file systems give it a meaning")]
    Dots(&'static str),
}

impl TopicName {
    /// Checks a name. Names with [`RESERVED_PREFIX`] are valid; see [`TopicName::is_reserved`].
    ///
    /// # Errors
    /// [`TopicNameError`] says what is wrong with it.
    pub fn new(name: &str) -> Result<TopicName, TopicNameError> {
        match name {
            "" => return Err(TopicNameError::Empty),
            "." => return Err(TopicNameError::Dots(".")),
            ".." => return Err(TopicNameError::Dots("..")),
            _ => {}
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(TopicNameError::TooLong { bytes: name.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|&c| !allowed(c)) {
            Some(character) => Err(TopicNameError::Character { character }),
            None => Ok(TopicName(Arc::from(name))),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name belongs to dlog itself.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(name: &str) -> Result<TopicName, TopicNameError> {
        TopicName::new(name)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_and_dots() {
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new("."), Err(TopicNameError::Dots(".")));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots("..")));
        assert!(TopicName::new("...").is_ok());
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert_eq!(TopicName::new(&"a".repeat(250)), Err(TopicNameError::TooLong { bytes: 250 }));
        assert_eq!(TopicName::new("a/b"), Err(TopicNameError::Character { character: '/' }));
        assert_eq!(TopicName::new("aé"), Err(TopicNameError::Character { character: 'é' }));
        assert_eq!(TopicName::new("a\0"), Err(TopicNameError::Character { character: '\0' }));
    }

    #[test]
    fn reserved_names_are_known() {
        assert!(TopicName::new("__groups").expect("valid").is_reserved());
        assert!(!TopicName::new("_groups").expect("valid").is_reserved());
    }

    proptest! {
        #[test]
        fn valid_names_round_trip(name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}") {
            let parsed: TopicName = name.parse().expect("in the alphabet");
            prop_assert_eq!(parsed.as_str(), name.as_str());
        }

        #[test]
        fn any_string_is_answered(name in ".{0,300}") {
            if let Ok(parsed) = TopicName::new(&name) {
                prop_assert!(parsed.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            }
        }
    }
}
