//! The serialised KV cache of llama.cpp, read without trust.
//!
//! llama.cpp accepts blobs that are wrong (foreign positions, gaps, trailing bytes, no cells at all), so every number in
//! a blob that is not cache data is compared with a blob this process exported itself, before llama.cpp sees it.
//!
//! ```text
//! u32 magic | i32 sequence | u32 streams = 1 | u32 cells
//! cells × { i32 position, u32 sequences = 1, i32 sequence }
//! u32 v_trans | u32 layers | u32 n_rot_k | u32 n_rot_v
//! layers × { i32 type, u64 row bytes, cells × row }        keys
//! layers × { i32 type, u64 row bytes, cells × row }        values, not transposed under flash attention
//! ```

use std::ops::Range;

const HEAD_BYTES: usize = 16;
const CELL_BYTES: usize = 12;
const SHAPE_BYTES: usize = 16;
const ROW_HEAD_BYTES: usize = 12;

/// What is the same in every blob of one context.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    magic: u32,
    shape: [u8; SHAPE_BYTES],
    /// Head of each block of rows (type and row length), keys first.
    rows: Vec<[u8; ROW_HEAD_BYTES]>,
    row_bytes_in_all: usize,
}

impl Layout {
    /// Learns it from a blob of `cells` cells that this process exported. `None` when the model's cache has another
    /// form (recurrent, sliding window, cells with extra fields), which can't be handed over in chunks.
    pub(super) fn learn(blob: &[u8], cells: usize) -> Option<Layout> {
        let mut at = Reader(blob);
        let magic = at.u32()?;
        at.u32()?;
        let (streams, count) = (at.u32()?, at.u32()?);
        if streams != 1 || count as usize != cells {
            return None;
        }
        at.take(cells * CELL_BYTES)?;
        let shape: [u8; SHAPE_BYTES] = at.take(SHAPE_BYTES)?.try_into().ok()?;
        let (v_trans, layers) = (u32_at(&shape, 0), u32_at(&shape, 4));
        if v_trans != 0 || layers == 0 {
            return None;
        }
        let mut rows = Vec::new();
        let mut row_bytes_in_all = 0;
        while !at.0.is_empty() {
            let head: [u8; ROW_HEAD_BYTES] = at.take(ROW_HEAD_BYTES)?.try_into().ok()?;
            let row = usize::try_from(u64::from_ne_bytes(head[4..].try_into().ok()?)).ok()?;
            at.take(row.checked_mul(cells)?)?;
            rows.push(head);
            row_bytes_in_all += row;
        }
        // Some architectures share or leave out values, so fewer blocks than 2 × layers are fine, but never fewer than keys.
        let blocks = rows.len();
        (blocks >= layers as usize && blocks <= 2 * layers as usize).then_some(Layout {
            magic,
            shape,
            rows,
            row_bytes_in_all,
        })
    }

    /// Exact length of a blob of `cells` cells.
    pub(super) fn blob_bytes(&self, cells: usize) -> usize {
        HEAD_BYTES + SHAPE_BYTES + self.rows.len() * ROW_HEAD_BYTES + cells * (CELL_BYTES + self.row_bytes_in_all)
    }

    /// Whether `blob` has exactly this layout and holds each of `positions` once.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, blob: &[u8], positions: Range<u32>) -> Result<(), &'static str> {
        let cells = positions.len();
        if blob.len() != self.blob_bytes(cells) {
            return Err("its length does not fit its positions");
        }
        if u32_at(blob, 0) != self.magic || u32_at(blob, 8) != 1 || u32_at(blob, 12) as usize != cells {
            return Err("its head is wrong");
        }
        // Any order: a fragmented cache serialises by cell, not by position.
        let mut seen = vec![false; cells];
        for cell in blob[HEAD_BYTES..HEAD_BYTES + cells * CELL_BYTES].chunks_exact(CELL_BYTES) {
            let (position, sequences) = (u32_at(cell, 0), u32_at(cell, 4));
            let offset = position.wrapping_sub(positions.start) as usize;
            if sequences != 1 || offset >= cells || std::mem::replace(&mut seen[offset], true) {
                return Err("its cells are not the positions it names");
            }
        }
        let mut at = HEAD_BYTES + cells * CELL_BYTES;
        if blob[at..at + SHAPE_BYTES] != self.shape {
            return Err("its shape is another model's");
        }
        at += SHAPE_BYTES;
        for head in &self.rows {
            if blob[at..at + ROW_HEAD_BYTES] != head[..] {
                return Err("its rows are another model's");
            }
            // The layout was learned from rows of this length, and the whole length was compared above.
            let row = u64::from_ne_bytes([head[4], head[5], head[6], head[7], head[8], head[9], head[10], head[11]]);
            at += ROW_HEAD_BYTES + row as usize * cells;
        }
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32_at(bytes, 0))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(positions: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [0xaf14_3cd8, 3, 1, positions.len() as u32] {
            out.extend(u32::to_ne_bytes(word));
        }
        for position in positions {
            [*position, 1, 3].iter().for_each(|word| out.extend(u32::to_ne_bytes(*word)));
        }
        [0u32, 2, 0, 0].iter().for_each(|word| out.extend(u32::to_ne_bytes(*word)));
        for _ in 0..4 {
            out.extend(1i32.to_ne_bytes());
            out.extend(6u64.to_ne_bytes());
            out.extend(vec![7; 6 * positions.len()]);
        }
        out
    }

    #[test]
    fn its_own_blobs_pass_in_any_cell_order() {
        let layout = Layout::learn(&blob(&[0, 1]), 2).unwrap();
        assert_eq!(layout.blob_bytes(3), blob(&[5, 6, 7]).len());
        assert_eq!(layout.check(&blob(&[5, 6, 7]), 5..8), Ok(()));
        assert_eq!(layout.check(&blob(&[7, 5, 6]), 5..8), Ok(()));
    }

    #[test]
    fn wrong_positions_are_refused() {
        let layout = Layout::learn(&blob(&[0, 1]), 2).unwrap();
        for positions in [&[5, 6, 8][..], &[5, 5, 7], &[4, 5, 6], &[5, 6, u32::MAX], &[5, 6]] {
            assert!(layout.check(&blob(positions), 5..8).is_err(), "{positions:?}");
        }
    }

    #[test]
    fn every_bit_outside_cache_data_is_checked() {
        let layout = Layout::learn(&blob(&[0, 1]), 2).unwrap();
        let good = blob(&[5, 6, 7]);
        let structure = HEAD_BYTES + 3 * CELL_BYTES + SHAPE_BYTES + ROW_HEAD_BYTES;
        for bit in 0..structure * 8 {
            let byte = bit / 8;
            let in_cell = (HEAD_BYTES..HEAD_BYTES + 3 * CELL_BYTES).contains(&byte);
            // The exporter's sequence number means nothing here: llama.cpp reads and drops it too.
            if (4..8).contains(&byte) || (in_cell && (byte - HEAD_BYTES) % CELL_BYTES >= 8) {
                continue;
            }
            let mut bad = good.clone();
            bad[byte] ^= 1 << (bit % 8);
            assert!(layout.check(&bad, 5..8).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(layout.check(&good[..cut], 5..8).is_err(), "cut at {cut}");
        }
        assert!(layout.check(&[&good[..], &[0]].concat(), 5..8).is_err(), "trailing byte");
    }

    #[test]
    fn another_form_of_cache_is_not_learned() {
        let mut transposed = blob(&[0, 1]);
        transposed[HEAD_BYTES + 2 * CELL_BYTES] = 1;
        assert_eq!(Layout::learn(&transposed, 2), None);
        assert_eq!(Layout::learn(&blob(&[0, 1])[..60], 2), None);
        assert_eq!(Layout::learn(&[], 0), None);
    }
}
