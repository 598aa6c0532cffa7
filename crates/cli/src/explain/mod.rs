//! Long explanations of error and lint codes, one Markdown file per area.

use serde::Serialize;

/// The areas; in each file a topic starts with `## CODE: title`.
const AREAS: [&str; 12] = [
    include_str!("general.md"),
    include_str!("model.md"),
    include_str!("data.md"),
    include_str!("prune.md"),
    include_str!("measure.md"),
    include_str!("train.md"),
    include_str!("zoo.md"),
    include_str!("distill.md"),
    include_str!("sparse.md"),
    include_str!("gate.md"),
    include_str!("hardware.md"),
    include_str!("quantize.md"),
];

/// The explanation of one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Topic {
    /// Such as `E0110`.
    pub(crate) code: &'static str,
    /// One line.
    pub(crate) title: &'static str,
    /// What it means, why it happens, what to do.
    pub(crate) text: &'static str,
}

/// All topics, sorted by code.
pub(crate) fn topics() -> Vec<Topic> {
    let mut topics: Vec<Topic> = AREAS.iter().flat_map(|area| parse(area)).collect();
    topics.sort_unstable_by_key(|topic| topic.code);
    topics
}

fn parse(area: &'static str) -> Vec<Topic> {
    let sections = area.split("\n## ").skip(1);
    let topic = |section: &'static str| {
        let (heading, text) = section.split_once('\n')?;
        let (code, title) = heading.split_once(": ")?;
        Some(Topic { code, title, text: text.trim() })
    };
    sections.filter_map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_a_topic_with_text() {
        let headings: usize = AREAS.iter().map(|area| area.matches("\n## ").count()).sum();
        let topics = topics();
        assert_eq!(topics.len(), headings);
        for pair in topics.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} twice", pair[0].code);
        }
        for topic in topics {
            assert!(topic.text.len() > 80, "{} needs a longer text", topic.code);
            assert!(!topic.title.ends_with('.'), "{}", topic.code);
        }
    }
}
