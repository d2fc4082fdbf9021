//! Takes single values out of a line of JSON by pointer, reading the line once and keeping nothing else of it. The whole line
//! is still checked to be JSON: of all that a line costs, building a tree of it would be the most.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A parsed JSON pointer (RFC 6901): the names of the way down; empty for the whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Reads a pointer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Pointer, String> {
        let bad = |why: &str| format!("{text:?} {why}; a JSON pointer is like /tailnum or /plane/tailnum");
        let tokens = match text.strip_prefix('/') {
            None if text.is_empty() => Vec::new(),
            None => return Err(bad("does not begin with /")),
            Some(rest) => rest
                .split('/')
                .map(|token| {
                    let plain = token.replace("~0", "").replace("~1", "");
                    if plain.contains('~') {
                        return Err(bad("has a ~ that is neither ~0 nor ~1"));
                    }
                    Ok(token.replace("~1", "/").replace("~0", "~"))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Pointer { text: text.to_string(), tokens })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The value at each pointer, `None` where there is none.
///
/// # Errors
/// That the line isn't one JSON document, and where.
pub fn pick<const N: usize>(line: &[u8], pointers: [Option<&Pointer>; N]) -> Result<[Option<Value>; N], String> {
    let mut found: [Option<Value>; N] = std::array::from_fn(|_| None);
    let wanted: Vec<Wanted<'_>> = pointers
        .iter()
        .enumerate()
        .filter_map(|(slot, pointer)| pointer.map(|pointer| Wanted { tokens: &pointer.tokens, slot }))
        .collect();
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let result = Node { wanted: &wanted, found: &mut found }.deserialize(&mut deserializer);
    result.and_then(|()| deserializer.end()).map_err(|error| format!("malformed JSON: {error}"))?;
    Ok(found)
}

/// The rest of a way, and where what stands at its end goes.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    tokens: &'a [String],
    slot: usize,
}

/// One node of the document that some way leads through.
struct Node<'w, 'f> {
    wanted: &'w [Wanted<'w>],
    found: &'f mut [Option<Value>],
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.wanted.iter().all(|wanted| !wanted.tokens.is_empty()) {
            return deserializer.deserialize_any(self);
        }
        // The end of a way: the value itself, and what other ways look for below it.
        let value: Value = serde::Deserialize::deserialize(deserializer)?;
        for wanted in self.wanted {
            self.found[wanted.slot] = wanted.tokens.iter().try_fold(&value, |at, token| step(at, token)).cloned();
        }
        Ok(())
    }
}

fn step<'v>(value: &'v Value, token: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(token),
        Value::Array(items) => items.get(array_index(token)?),
        _ => None,
    }
}

/// As RFC 6901 has it: digits, no leading zero.
fn array_index(token: &str) -> Option<usize> {
    if token.starts_with('+') || (token.starts_with('0') && token.len() > 1) { None } else { token.parse().ok() }
}

impl<'w> Node<'w, '_> {
    /// The ways that go on through the child with this name.
    fn through(&self, name: impl Fn(&str) -> bool) -> Vec<Wanted<'w>> {
        let leads = self.wanted.iter().filter(|wanted| name(&wanted.tokens[0]));
        leads.map(|wanted| Wanted { tokens: &wanted.tokens[1..], slot: wanted.slot }).collect()
    }

    fn leads(&self, name: impl Fn(&str) -> bool) -> bool {
        self.wanted.iter().any(|wanted| name(&wanted.tokens[0]))
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if !self.leads(|token| token == name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let below = self.through(|token| token == name);
            // Of a name that stands twice the last one counts, as with every common parser.
            below.iter().for_each(|wanted| self.found[wanted.slot] = None);
            map.next_value_seed(Node { wanted: &below, found: &mut *self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0usize.. {
            let below = self.through(|token| array_index(token) == Some(index));
            let more = match below.is_empty() {
                true => items.next_element::<IgnoredAny>()?.is_some(),
                false => items.next_element_seed(Node { wanted: &below, found: &mut *self.found })?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A name of an object, borrowed from the line unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'de>, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(pointer: &str, line: &str) -> Result<Option<Value>, String> {
        let pointer = Pointer::new(pointer).expect("a pointer");
        pick(line.as_bytes(), [Some(&pointer)]).map(|[value]| value)
    }

    #[test]
    fn finds_what_pointers_name() {
        let line = r#"{"a":"x","o":{"i":[1,{"d":2.50}]},"a/b":1,"":7,"e\u0041":3}"#;
        assert_eq!(one("/a", line), Ok(Some(json!("x"))));
        assert_eq!(one("/o/i/1/d", line).map(|v| v.map(|v| v.to_string())), Ok(Some("2.50".to_string())));
        assert_eq!(one("/a~1b", line), Ok(Some(json!(1))));
        assert_eq!(one("/", line), Ok(Some(json!(7))));
        assert_eq!(one("/eA", line), Ok(Some(json!(3))));
        assert_eq!(one("", "[1]"), Ok(Some(json!([1]))));
        for absent in ["/b", "/a/b", "/o/i/01/d", "/o/i/2", "/o/x"] {
            assert_eq!(one(absent, line), Ok(None), "{absent}");
        }
        let (a, b) = (Pointer::new("/o").expect("good"), Pointer::new("/o/i").expect("good"));
        let both = pick(line.as_bytes(), [Some(&a), None, Some(&b)]).expect("JSON");
        assert!(both[0].as_ref().is_some_and(Value::is_object) && both[1].is_none());
        assert!(both[2].as_ref().is_some_and(Value::is_array));
    }

    #[test]
    fn the_whole_line_is_checked() {
        for bad in
            ["", "{", r#"{"a":1"#, r#"{"a":1}x"#, r#"{"z":[1,],"a":1}"#, "nonsense", r#"{"z":01}"#, "{\"a\":1}\n2"]
        {
            assert!(one("/a", bad).is_err_and(|e| e.starts_with("malformed JSON")), "{bad}");
        }
    }

    #[test]
    fn bad_pointers() {
        for bad in ["a", "/~", "/a~2", " /a"] {
            assert!(Pointer::new(bad).is_err(), "{bad}");
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\/~é]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[ab~/]{0,2}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The tree that serde_json makes, and its own pointers, say the same.
        #[test]
        fn agrees_with_the_tree(
            document in document(),
            first in proptest::collection::vec("a|b|~0|~1|0|1|", 0..3),
            second in proptest::collection::vec("a|b|0|1", 0..3),
        ) {
            let text = |tokens: &[String]| tokens.iter().map(|t| format!("/{t}")).collect::<String>();
            let texts = [text(&first), text(&second)];
            let pointers = [Pointer::new(&texts[0]).expect("good"), Pointer::new(&texts[1]).expect("good")];
            let found = pick(document.to_string().as_bytes(), [Some(&pointers[0]), Some(&pointers[1])]).expect("JSON");
            for (found, text) in found.iter().zip(&texts) {
                prop_assert_eq!(found.as_ref(), document.pointer(text));
            }
        }
    }
}
