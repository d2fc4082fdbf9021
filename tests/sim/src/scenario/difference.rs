//! What changed between two texts, line by line, with the command it belongs to.

/// Lines shown around a change.
const AROUND: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Same,
    Gone,
    New,
}

/// The lines that are gone (`-`) and new (`+`), each with a few lines around it; empty if the texts are equal.
pub fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let changes = changes(&old, &new);
    let changed = |at: usize| changes[at].0 != Change::Same;
    let mut text = String::new();
    let mut last_shown = None;
    for (at, (change, line)) in changes.iter().enumerate() {
        let near = at.saturating_sub(AROUND)..(at + AROUND + 1).min(changes.len());
        if !near.into_iter().any(changed) {
            continue;
        }
        if last_shown.is_none_or(|last: usize| last + 1 < at) {
            text.push_str("  ...\n");
        }
        last_shown = Some(at);
        let mark = match change {
            Change::Same => ' ',
            Change::Gone => '-',
            Change::New => '+',
        };
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

/// The longest common subsequence, by the table of its lengths: scripts have some hundred lines.
fn changes<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Change, &'a str)> {
    let mut lengths = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] = match old[i] == new[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            found.push((Change::Same, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j >= new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            found.push((Change::Gone, old[i]));
            i += 1;
        } else {
            found.push((Change::New, new[j]));
            j += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_none() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), "");
    }

    #[test]
    fn a_change_is_shown_with_what_stands_around_it() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        assert_eq!(difference(old, new), "  ...\n  3\n  4\n- 5\n+ five\n  6\n  7\n  8\n+ 9\n");
    }
}
