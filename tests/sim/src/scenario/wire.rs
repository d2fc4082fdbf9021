//! `Wire`: messages on their way, which stay there until a command says what becomes of them.

use dlog_consensus::{MessageKind, PeerMessage};
use dlog_storage::{Boot, GroupNumber};
use std::collections::BTreeSet;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message.
    pub message: PeerMessage,
    /// Which start sent it, and the last group that was synced there then: what the bundle says.
    pub synced: (Boot, GroupNumber),
    /// Who holds it back, if anyone.
    pub held: Option<String>,
}

/// Which of the messages on their way are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    from: Option<u32>,
    to: Option<u32>,
    kinds: Vec<MessageKind>,
    count: Option<usize>,
}

impl Selection {
    /// Reads `all`, `1->2`, `1->` or `->2`, then kinds of messages and how many of them.
    ///
    /// # Errors
    /// The word that isn't understood.
    pub fn parse(words: &[&str]) -> Result<Selection, String> {
        let mut selection = Selection::default();
        let (link, rest) = words.split_first().ok_or("which messages? `all`, `1->2`, `1->` or `->2`")?;
        if *link != "all" {
            let node = |text: &str| match text {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| format!("`{text}` is no node")),
            };
            let (from, to) = link.split_once("->").ok_or_else(|| format!("`{link}` is no link, such as 1->2"))?;
            (selection.from, selection.to) = (node(from)?, node(to)?);
        }
        for word in rest {
            match (word.parse(), MessageKind::ALL.iter().find(|kind| format!("{kind:?}") == *word)) {
                (Ok(count), _) => selection.count = Some(count),
                (_, Some(kind)) => selection.kinds.push(*kind),
                _ => return Err(format!("`{word}` is neither a kind of message nor a number")),
            }
        }
        Ok(selection)
    }

    fn matches(&self, message: &PeerMessage) -> bool {
        self.from.is_none_or(|node| message.from.node().0 == node)
            && self.to.is_none_or(|node| message.to.node().0 == node)
            && (self.kinds.is_empty() || self.kinds.contains(&message.kind))
    }
}

/// Messages on their way, in the order in which they were sent, and the links that are cut.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    sent: Vec<Sent>,
    /// From whom to whom nothing goes.
    cut: BTreeSet<(u32, u32)>,
}

impl Wire {
    /// A message is sent; `false`: the link is cut, and it is lost.
    pub fn send(&mut self, message: PeerMessage, synced: (Boot, GroupNumber)) -> bool {
        let open = !self.is_cut(message.from.node().0, message.to.node().0);
        if open {
            self.sent.push(Sent { message, synced, held: None });
        }
        open
    }

    /// Takes out those that are meant and aren't held.
    pub fn take(&mut self, selection: &Selection) -> Vec<Sent> {
        let mut taken = Vec::new();
        self.sent.retain(|sent| {
            let enough = selection.count.is_some_and(|count| taken.len() >= count);
            let take = !enough && sent.held.is_none() && selection.matches(&sent.message);
            if take {
                taken.push(sent.clone());
            }
            !take
        });
        taken
    }

    /// Takes out the oldest one to a node that `may` take it.
    pub fn take_next(&mut self, may: impl Fn(u32) -> bool) -> Option<Sent> {
        let next = |sent: &Sent| sent.held.is_none() && may(sent.message.to.node().0);
        let at = self.sent.iter().position(next)?;
        Some(self.sent.remove(at))
    }

    /// Sends those that are meant a second time; gives back how many.
    pub fn duplicate(&mut self, selection: &Selection) -> usize {
        let twice: Vec<Sent> = self.sent.iter().filter(|sent| selection.matches(&sent.message)).cloned().collect();
        let count = selection.count.unwrap_or(usize::MAX).min(twice.len());
        self.sent.extend(twice.into_iter().take(count));
        count
    }

    /// Holds back those that are meant, under a name; gives them back.
    pub fn hold(&mut self, name: &str, selection: &Selection) -> Vec<PeerMessage> {
        let mut held = Vec::new();
        for sent in self.sent.iter_mut().filter(|sent| sent.held.is_none() && selection.matches(&sent.message)) {
            if selection.count.is_none_or(|count| held.len() < count) {
                sent.held = Some(name.to_owned());
                held.push(sent.message.clone());
            }
        }
        held
    }

    /// Lets those go that were held under a name; gives back how many.
    pub fn release(&mut self, name: &str) -> usize {
        let held = self.sent.iter_mut().filter(|sent| sent.held.as_deref() == Some(name));
        held.map(|sent| sent.held = None).count()
    }

    /// Cuts or mends a link in one direction; what is on it then, and isn't held, is lost.
    pub fn set_cut(&mut self, from: u32, to: u32, cut: bool) {
        if !cut {
            self.cut.remove(&(from, to));
            return;
        }
        self.cut.insert((from, to));
        let on_it = |sent: &Sent| (sent.message.from.node().0, sent.message.to.node().0) == (from, to);
        self.sent.retain(|sent| sent.held.is_some() || !on_it(sent));
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether nothing goes from one node to another.
    pub fn is_cut(&self, from: u32, to: u32) -> bool {
        self.cut.contains(&(from, to))
    }

    /// All that is on its way.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }
}
