//! Tests of a topic's settings.

use super::*;
use proptest::prelude::*;

fn changes(pairs: &[(&str, &str)]) -> Result<SettingChanges, SettingError> {
    let mut changes = SettingChanges::default();
    for (key, value) in pairs {
        changes.set(key, value)?;
    }
    Ok(changes)
}

#[test]
fn defaults_hold_where_nothing_is_set() {
    let settings = TopicSettings::default();
    assert_eq!(settings.segment_bytes(), 64 << 20);
    assert_eq!(settings.max_batch_bytes(), 1 << 20);
    assert_eq!(settings.timestamp_type(), TimestampType::Create);
    assert_eq!((settings.retention_bytes(), settings.retention_ms()), (None, None));
    let shown = [
        ("max.batch.bytes", "1048576"),
        ("retention.bytes", "unlimited"),
        ("retention.ms", "unlimited"),
        ("segment.bytes", "67108864"),
        ("timestamp.type", "create"),
    ];
    assert_eq!(settings.effective(), shown.map(|(key, value)| (key, value.to_owned())));
}

#[test]
fn pairs_are_read_with_their_units() {
    let settings = TopicSettings::parse(["segment.bytes=1 GiB", "max.batch.bytes=2048", "timestamp.type=append"]);
    let settings = settings.expect("all in range");
    assert_eq!(settings.segment_bytes(), 1 << 30);
    assert_eq!(settings.max_batch_bytes(), 2048);
    assert_eq!(settings.timestamp_type(), TimestampType::Append);
    assert!(settings.validate().is_ok());
}

#[test]
fn retention_is_a_size_and_a_time_or_unlimited() {
    let bytes =
        |value: &str| TopicSettings::parse([format!("retention.bytes={value}")]).expect(value).retention_bytes();
    let ms = |value: &str| TopicSettings::parse([format!("retention.ms={value}")]).expect(value).retention_ms();
    assert_eq!(["64MiB", "1 TiB", "1024"].map(bytes), [Some(64 << 20), Some(1 << 40), Some(1024)]);
    assert_eq!(["unlimited", "-1"].map(bytes), [None, None]);
    for week in ["7d", "168h", "10080m", "604800s", "604800000", "604800000ms"] {
        assert_eq!(ms(week), Some(604_800_000), "{week}");
    }
    assert_eq!(["1", "36500d"].map(ms), [Some(1), Some(36_500 * 86_400_000)]);
    assert_eq!(["unlimited", "-1"].map(ms), [None, None]);
}

#[test]
fn an_error_names_key_and_range() {
    let said = |pair: &str| TopicSettings::parse([pair]).expect_err("refused").to_string();
    assert_eq!(said("segment.bytes=1"), "segment.bytes is \"1\"; allowed is a size from 64KiB to 1GiB");
    assert_eq!(said("segment.bytes=2GiB"), "segment.bytes is \"2GiB\"; allowed is a size from 64KiB to 1GiB");
    assert_eq!(said("max.batch.bytes=-1"), "max.batch.bytes is \"-1\"; allowed is a size from 1KiB to 8MiB");
    assert_eq!(said("max.batch.bytes="), "max.batch.bytes is \"\"; allowed is a size from 1KiB to 8MiB");
    assert_eq!(said("timestamp.type=now"), "timestamp.type is \"now\"; allowed is create or append");
    for value in ["0", "1023", "2PiB", "-2", "18446744073709551615", "7d", "all"] {
        let said = said(&format!("retention.bytes={value}"));
        assert!(said.ends_with("allowed is a size from 1KiB to 1PiB, or unlimited"), "{said}");
    }
    for value in ["0", "36501d", "-2", "18446744073709551615", "1w", "1GiB", "1.5h", "forever"] {
        let said = said(&format!("retention.ms={value}"));
        assert!(said.contains("allowed is a time from 1ms to 36500d") && said.ends_with("or unlimited"), "{said}");
    }
    assert!(said("segment_bytes=1").contains("no topic setting \"segment_bytes\""));
    assert!(said("segment.bytes").contains("key=value"));
    let twice = TopicSettings::parse(["segment.bytes=1MiB", "segment.bytes=1MiB"]).expect_err("refused");
    assert_eq!(twice, SettingError::Twice { key: "segment.bytes" });
}

#[test]
fn an_alteration_sets_and_resets_and_leaves_the_rest() {
    let before = TopicSettings::parse(["segment.bytes=1MiB", "retention.ms=7d", "timestamp.type=append"]);
    let before = before.expect("valid");
    let change = changes(&[("retention.bytes", "1GiB"), ("retention.ms", ""), ("segment.bytes", "default")]);
    let after = before.altered(&change.expect("valid")).expect("possible");
    let expected = TopicSettings::parse(["retention.bytes=1GiB", "timestamp.type=append"]).expect("valid");
    assert_eq!(after, expected);
    // Unlimited is a value: it goes over one that was set.
    let unlimited = before.altered(&changes(&[("retention.ms", "unlimited")]).expect("valid")).expect("possible");
    assert_eq!((unlimited.retention_ms(), unlimited.segment_bytes()), (None, 1 << 20));
}

#[test]
fn an_alteration_that_contradicts_itself_is_refused() {
    let twice = Err(SettingError::Twice { key: "retention.ms" });
    assert_eq!(changes(&[("retention.ms", "7d"), ("retention.ms", "")]), twice);
    assert_eq!(changes(&[("retention.ms", "default"), ("retention.ms", "7d")]), twice);
    assert_eq!(changes(&[("retention.ms", ""), ("retention.ms", "")]), twice);
    assert!(matches!(changes(&[("retention", "")]), Err(SettingError::Unknown { .. })));
    // What came as bytes is checked again.
    let settings = TopicSettings::parse(["retention.ms=7d"]).expect("valid");
    let both = SettingChanges { settings, defaults: vec!["retention.ms".into()] };
    assert_eq!(TopicSettings::default().altered(&both).map(|_| SettingChanges::default()), twice);
    let unknown = SettingChanges { defaults: vec!["x".into()], ..SettingChanges::default() };
    assert!(matches!(TopicSettings::default().altered(&unknown), Err(SettingError::Unknown { .. })));
}

#[test]
fn golden_bytes() {
    let settings = TopicSettings::parse(["segment.bytes=65536", "max.batch.bytes=1024", "timestamp.type=append"]);
    assert_eq!(settings.expect("valid").encode_to_vec(), [0x08, 0x80, 0x80, 0x04, 0x10, 0x80, 0x08, 0x18, 0x02]);
    let settings = TopicSettings::parse(["retention.bytes=1024", "retention.ms=-1"]).expect("valid");
    let unlimited = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(settings.encode_to_vec(), [&[0x20, 0x80, 0x08, 0x28][..], &unlimited].concat());
}

proptest! {
    #[test]
    fn any_text_is_an_answer_or_an_error(key in 0..KEYS.len(), text in "\\PC{0,40}") {
        let _ = TopicSettings::parse([&text]);
        let _ = TopicSettings::parse([format!("{}={text}", KEYS[key].name())]);
    }

    /// What parses also passes the check of decoded bytes, and the value shown parses to the same.
    #[test]
    fn what_parses_is_valid(
        segment in 1u64..(2 << 30), batch in 1u64..(16 << 20), bytes in 1u64..(1 << 51), ms in 1u64..(1 << 42),
    ) {
        let pairs = [
            format!("segment.bytes={segment}"),
            format!("max.batch.bytes={batch}"),
            format!("retention.bytes={bytes}"),
            format!("retention.ms={ms}"),
        ];
        let raw = TopicSettings {
            segment_bytes: segment,
            max_batch_bytes: batch,
            timestamp_type: 0,
            retention_bytes: bytes,
            retention_ms: ms,
        };
        match TopicSettings::parse(&pairs) {
            Ok(settings) => {
                prop_assert_eq!(&settings, &raw);
                prop_assert!(settings.validate().is_ok());
                let shown = settings.effective().map(|(key, value)| format!("{key}={value}"));
                prop_assert_eq!(TopicSettings::parse(shown).expect("shown").effective(), settings.effective());
            }
            Err(_) => prop_assert!(raw.validate().is_err()),
        }
    }
}
