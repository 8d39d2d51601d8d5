//! From token bytes to text that may be shown: whole characters, and nothing that may yet turn out to be a stop text.

use crate::stops::Stops;

/// The text stage of one answer.
#[derive(Debug)]
pub(crate) struct TextStage {
    stops: Stops,
    /// Bytes of a character that is not complete yet; at most three.
    partial: Vec<u8>,
    /// Whole characters that may begin a stop text.
    held: String,
}

/// What a push brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// May go out.
    pub(crate) text: String,
    /// The stop text that came up; nothing after it is ever shown.
    pub(crate) stop: Option<String>,
}

impl TextStage {
    pub(crate) fn new(stops: Stops) -> TextStage {
        TextStage { stops, partial: Vec::new(), held: String::new() }
    }

    /// Takes the bytes of the next token.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Shown {
        self.partial.extend_from_slice(bytes);
        let whole = whole_characters(&self.partial);
        let rest = self.partial.split_off(whole);
        let before = self.held.len();
        self.held.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial = rest;
        self.release(before)
    }

    /// Whether these bytes, the first of the answer, bring a stop text up.
    pub(crate) fn would_stop(&self, bytes: &[u8]) -> bool {
        self.stops.occur_in(&String::from_utf8_lossy(bytes))
    }

    /// The answer ends here: what was held back is part of it.
    pub(crate) fn finish(&mut self) -> String {
        self.held.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        std::mem::take(&mut self.held)
    }

    /// `before` bytes of what is held were looked at already.
    fn release(&mut self, before: usize) -> Shown {
        if let Some((end, stop)) = self.stops.find(&self.held[before..]) {
            self.held.truncate(before + end - stop.len());
            self.partial.clear(); // it came after the stop text
            return Shown { text: std::mem::take(&mut self.held), stop: Some(stop) };
        }
        let held = self.held.split_off(self.held.len() - self.stops.begun());
        Shown { text: std::mem::replace(&mut self.held, held), stop: None }
    }
}

/// How many of `bytes` may be decoded now; only a character that could still be completed is left.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needed = match bytes[at] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue, // inside a character: its first byte is further left
            0x00..=0x7F | 0xC0..=0xC1 | 0xF5..=0xFF => return bytes.len(),
        };
        return if at + needed > bytes.len() { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(stops: &[&str]) -> TextStage {
        TextStage::new(Stops::new(stops.iter().map(|stop| (*stop).to_owned()).collect()).unwrap())
    }

    #[test]
    fn any_split_of_bytes_shows_the_same_text_in_whole_characters() {
        let text = "naïve 日本 🌲é end";
        for size in 1..8 {
            let mut stage = stage(&[]);
            let mut shown = String::new();
            for bytes in text.as_bytes().chunks(size) {
                shown.push_str(&stage.push(bytes).text);
                assert!(!shown.contains('\u{FFFD}'), "a broken character at size {size}");
            }
            shown.push_str(&stage.finish());
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_block_what_follows() {
        let mut stage = stage(&[]);
        assert_eq!(stage.push(b"\xFF\x80a").text, "\u{FFFD}\u{FFFD}a");
        assert_eq!(stage.push(b"\xE2\x82").text, "");
        assert_eq!(stage.finish(), "\u{FFFD}");
    }

    #[test]
    fn a_stop_text_is_found_across_pieces_and_never_shown() {
        let mut stage = stage(&["END", "</s>"]);
        assert_eq!(stage.push(b"hello E"), Shown { text: "hello ".into(), stop: None });
        assert_eq!(stage.push(b"N"), Shown::default());
        assert_eq!(stage.push(b"D and more"), Shown { text: String::new(), stop: Some("END".into()) });
    }

    #[test]
    fn looking_ahead_changes_nothing() {
        let mut stage = stage(&["END"]);
        assert!(stage.would_stop(b"so END") && !stage.would_stop(b"so EN"));
        assert_eq!(stage.push(b"so EN"), Shown { text: "so ".into(), stop: None });
    }

    #[test]
    fn a_character_begun_behind_a_stop_text_is_dropped_with_the_rest() {
        let mut stage = stage(&["END"]);
        assert_eq!(stage.push(b"so END\xE6\x97"), Shown { text: "so ".into(), stop: Some("END".into()) });
        assert_eq!(stage.finish(), "");
    }

    #[test]
    fn a_beginning_that_does_not_go_on_is_shown() {
        let mut stage = stage(&["aab"]);
        assert_eq!(stage.push(b"xaa").text, "x");
        assert_eq!(stage.push(b"a").text, "a");
        assert_eq!(stage.push(b"c").text, "aac");
        assert_eq!(stage.push(b"a").text, "");
        assert_eq!(stage.finish(), "a");
    }

    #[test]
    fn the_stop_that_is_whole_first_wins_and_of_two_the_longer_however_tokens_cut_the_text() {
        let cases: [(&[&str], &str, &str); 4] = [
            (&["c", "b"], "a", "b"),
            (&["abcd", "bc"], "a", "bc"),
            (&["bc", "abc"], "", "abc"),
            (&["bcd", "b"], "a", "b"),
        ];
        for (stops, text, stop) in cases {
            for size in 1..=4 {
                let (mut stage, mut shown) = (stage(stops), String::new());
                let found = b"abcd".chunks(size).find_map(|bytes| {
                    let piece = stage.push(bytes);
                    shown.push_str(&piece.text);
                    piece.stop
                });
                assert_eq!((shown.as_str(), found.as_deref()), (text, Some(stop)), "{stops:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn as_many_and_as_long_stops_as_are_allowed_are_looked_for() {
        use cluster_protocol::limits;
        // The hardest there are: any text goes along with all of them to their last bytes.
        let stops: Vec<String> = (0..limits::MAX_STOPS).map(|at| format!("{}{at:04}", "a".repeat(22))).collect();
        assert!(limits::takes_stops(&stops));
        let mut stage = stage(&stops.iter().map(String::as_str).collect::<Vec<_>>());
        let mut shown = String::new();
        for _ in 0..20_000 {
            let piece = stage.push(b"a");
            assert_eq!(piece.stop, None);
            shown.push_str(&piece.text);
        }
        assert_eq!(shown.len(), 20_000 - 22);
        assert_eq!(stage.push(b"2499"), Shown { text: String::new(), stop: Some(stops[2499].clone()) });
    }

    #[test]
    fn a_stop_of_wide_characters_is_held_at_character_borders() {
        let mut stage = stage(&["日本"]);
        let mut shown = String::new();
        for byte in "ab日米日本".bytes() {
            let piece = stage.push(&[byte]);
            shown.push_str(&piece.text);
            if piece.stop.is_some() {
                assert_eq!(shown, "ab日米");
                return;
            }
        }
        panic!("the stop text was not found");
    }
}
