//! Names that a user may have meant: a topic that isn't there is told with the one whose name is closest.

use dlog_client::{Admin, Error, ErrorCode};
use std::time::Duration;

/// The suggestion must not keep the error waiting.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Adds the closest name to an `unknown_topic`; everything else is left as it is.
///
/// # Errors
/// The one given, explained.
pub async fn explain<T>(admin: &Admin, name: &str, result: Result<T, Error>) -> Result<T, Error> {
    let error = match result {
        Err(error) if error.code() == ErrorCode::UnknownTopic => error,
        result => return result,
    };
    let topics = tokio::time::timeout(LOOK_TIMEOUT, admin.list_topics()).await;
    let names: Vec<String> = topics.ok().and_then(Result::ok).unwrap_or_default().into_iter().map(|t| t.name).collect();
    let Some(other) = closest(name, &names) else { return Err(error) };
    let mut detail = error.detail().clone();
    detail.message = format!("{}; did you mean {other}?", detail.message);
    Err(detail.into())
}

/// The name that differs in the fewest letters, if that is few enough to be a slip.
fn closest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    let near = names.iter().map(|name| (distance(wanted, name), name.as_str()));
    near.filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}

/// How many letters must be put in, left out, changed or swapped with their neighbour; case doesn't count.
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.to_lowercase().chars().collect::<Vec<char>>());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_names_are_not() {
        assert_eq!((distance("orders", "ordres"), distance("Orders", "order"), distance("", "ab")), (1, 1, 2));
        let names = ["orders", "events", "e"].map(String::from);
        assert_eq!(closest("ordrs", &names), Some("orders"));
        assert_eq!(closest("event", &names), Some("events"));
        assert_eq!(closest("payments", &names), None);
        assert_eq!(closest("xyz", &names), None, "three letters, all different");
    }
}
