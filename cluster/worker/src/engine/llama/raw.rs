//! The calls into llama.cpp, each with what makes it sound and why its arguments can't abort the process.

use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;

/// A loaded model with its one context, freed together.
pub(super) struct Context {
    model: NonNull<sys::llama_model>,
    context: NonNull<sys::llama_context>,
    memory: sys::llama_memory_t,
    vocab: NonNull<sys::llama_vocab>,
    batch: Batch,
    /// Sequence ids are below this.
    sequences: u32,
}

/// One row of a batch; `sequence` must be below the context's sequences.
pub(super) struct Row {
    pub(super) token: u32,
    pub(super) position: u32,
    pub(super) sequence: u32,
    pub(super) want_logits: bool,
}

pub(super) struct ContextShape {
    pub(super) cells: u32,
    /// Most rows of one batch.
    pub(super) batch: u32,
    /// Rows evaluated at once.
    pub(super) chunk: u32,
    pub(super) sequences: u32,
    /// Most rows with logits in one batch.
    pub(super) outputs: u32,
    pub(super) threads: u32,
}

/// Buffers of `llama_batch`, kept here so that no C memory is owned twice.
#[derive(Default)]
struct Batch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    counts: Vec<i32>,
    sequences: Vec<i32>,
    sequence_rows: Vec<*mut i32>,
    logits: Vec<i8>,
    limit: usize,
}

/// Sends llama.cpp's log lines to `tracing`, and readies its backends.
pub(super) fn initialise() {
    // SAFETY: no pointers are kept but that of a plain function; repeats are harmless.
    unsafe {
        sys::llama_log_set(Some(log_line), std::ptr::null_mut());
        sys::llama_backend_init();
    }
}

impl Context {
    /// Loads a model and makes its context. `shape` must be within what [`super::LlamaEngine`] checks.
    pub(super) fn open(path: &Path, shape: impl FnOnce(u32) -> ContextShape) -> Result<Context, String> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| "the path has a NUL byte")?;
        // SAFETY: returns a plain struct.
        let mut model_params = unsafe { sys::llama_model_default_params() };
        model_params.n_gpu_layers = 0;
        // SAFETY: the path is a NUL-terminated string that lives through the call; null comes back on any failure.
        let model = unsafe { sys::llama_model_load_from_file(c_path.as_ptr(), model_params) };
        let model = NonNull::new(model).ok_or("llama.cpp can't load it")?;
        let context = Self::with_model(model, shape);
        if context.is_err() {
            // SAFETY: the model was loaded above, has no context, and is not used again.
            unsafe { sys::llama_model_free(model.as_ptr()) };
        }
        context
    }

    fn with_model(
        model: NonNull<sys::llama_model>,
        shape: impl FnOnce(u32) -> ContextShape,
    ) -> Result<Context, String> {
        // SAFETY: the model is live; these only read it.
        let (trained, encodes) =
            unsafe { (sys::llama_model_n_ctx_train(model.as_ptr()), sys::llama_model_has_encoder(model.as_ptr())) };
        if encodes {
            return Err("encoder models can't generate".into());
        }
        let shape = shape(u32::try_from(trained).unwrap_or(0));
        // SAFETY: returns a plain struct.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = shape.cells;
        params.n_batch = shape.batch;
        params.n_ubatch = shape.chunk;
        params.n_seq_max = shape.sequences;
        params.n_outputs_max = shape.outputs;
        params.n_threads = shape.threads as i32;
        params.n_threads_batch = shape.threads as i32;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED; // AUTO could choose differently on the two sides
        params.type_k = sys::GGML_TYPE_F16;
        params.type_v = sys::GGML_TYPE_F16;
        params.kv_unified = true; // a range copy between sequences aborts without it
        params.no_perf = true;
        // SAFETY: the model is live and outlives the context (see `drop`); null comes back on failure.
        let context = unsafe { sys::llama_init_from_model(model.as_ptr(), params) };
        let context = NonNull::new(context).ok_or("llama.cpp can't make a context of this size")?;
        // SAFETY: context and model are live; both pointers stay valid as long as these do.
        let (memory, vocab) =
            unsafe { (sys::llama_get_memory(context.as_ptr()), sys::llama_model_get_vocab(model.as_ptr()).cast_mut()) };
        let vocab = NonNull::new(vocab);
        let (Some(vocab), false) = (vocab, memory.is_null()) else {
            // SAFETY: made above, not used again.
            unsafe { sys::llama_free(context.as_ptr()) };
            return Err("the model has no vocabulary or no KV cache".into());
        };
        let batch = Batch { limit: shape.batch as usize, ..Batch::default() };
        Ok(Context { model, context, memory, vocab, batch, sequences: shape.sequences })
    }

    /// `llama_decode`: 0 is success, 1 a full cache; refused without any call when a row is out of range.
    pub(super) fn decode(&mut self, rows: impl ExactSizeIterator<Item = Row>) -> i32 {
        const REFUSED: i32 = -1;
        let count = rows.len();
        // More rows than n_batch would abort.
        if count == 0 || count > self.batch.limit {
            return REFUSED;
        }
        self.batch.clear();
        for row in rows {
            if row.sequence >= self.sequences || row.token >= i32::MAX as u32 || row.position >= i32::MAX as u32 {
                return REFUSED;
            }
            self.batch.push(&row);
        }
        let batch = self.batch.as_raw();
        // SAFETY: the batch's arrays hold `count` entries each and live in `self` through the call, which copies them;
        // each row names one valid sequence. Wrong tokens and positions are answered with a code.
        unsafe { sys::llama_decode(self.context.as_ptr(), batch) }
    }

    /// Logits of a row of the last batch; `None` when it did not ask for them.
    pub(super) fn logits(&mut self, row: usize) -> Option<&[f32]> {
        if row >= self.batch.logits.len() || self.batch.logits[row] == 0 {
            return None;
        }
        // SAFETY: the row is within the last batch; null when there are none. The floats stay valid until the next
        // call that takes `&mut self`, which the borrow forbids.
        unsafe {
            let logits = sys::llama_get_logits_ith(self.context.as_ptr(), row as i32);
            (!logits.is_null()).then(|| std::slice::from_raw_parts(logits, self.vocabulary() as usize))
        }
    }

    /// Copies positions (all when `None`) of one sequence to another: metadata only, as the buffer is unified.
    pub(super) fn copy_sequence(&mut self, from: u32, to: u32, positions: Option<(u32, u32)>) {
        assert!(
            from < self.sequences && to < self.sequences,
            "sequence ids come from the scheduler, never from a peer"
        );
        let (start, end) = positions.map_or((-1, -1), |(start, end)| (start as i32, end as i32));
        // SAFETY: the memory belongs to the live context; ids are in range, and the context is unified.
        unsafe { sys::llama_memory_seq_cp(self.memory, from as i32, to as i32, start, end) }
    }

    /// Empties a sequence.
    pub(super) fn remove_sequence(&mut self, sequence: u32) {
        assert!(sequence < self.sequences, "sequence ids come from the scheduler, never from a peer");
        // SAFETY: as above. Removing a whole sequence can't fail.
        unsafe { sys::llama_memory_seq_rm(self.memory, sequence as i32, -1, -1) };
    }

    /// First and last position of a sequence; (-1, -1) when it is empty.
    pub(super) fn positions(&self, sequence: u32) -> (i32, i32) {
        assert!(sequence < self.sequences, "sequence ids come from the scheduler, never from a peer");
        // SAFETY: the memory belongs to the live context, the id is in range, and these only read.
        unsafe {
            (
                sys::llama_memory_seq_pos_min(self.memory, sequence as i32),
                sys::llama_memory_seq_pos_max(self.memory, sequence as i32),
            )
        }
    }

    /// Replaces `out` by a sequence's serialised cache; `false` when llama.cpp wrote another length than it announced.
    pub(super) fn export(&mut self, sequence: u32, out: &mut Vec<u8>) -> bool {
        assert!(sequence < self.sequences, "sequence ids come from the scheduler, never from a peer");
        out.clear();
        // SAFETY: reads the live context; the id is in range.
        let bytes = unsafe { sys::llama_state_seq_get_size(self.context.as_ptr(), sequence as i32) };
        out.reserve(bytes);
        // SAFETY: `out` has room for `bytes` bytes, which is the limit given; as many as are returned were written.
        unsafe {
            let written =
                sys::llama_state_seq_get_data(self.context.as_ptr(), out.as_mut_ptr(), bytes, sequence as i32);
            if written != bytes {
                return false;
            }
            out.set_len(written);
        }
        true
    }

    /// Replaces a sequence by a serialised cache; `false` when llama.cpp did not take exactly all of it. The blob must
    /// have passed [`super::blob::Layout::check`].
    pub(super) fn import(&mut self, sequence: u32, blob: &[u8]) -> bool {
        assert!(sequence < self.sequences, "sequence ids come from the scheduler, never from a peer");
        // SAFETY: reads `blob.len()` bytes of a live slice; errors inside are caught there and answered with 0.
        let read =
            unsafe { sys::llama_state_seq_set_data(self.context.as_ptr(), blob.as_ptr(), blob.len(), sequence as i32) };
        read == blob.len()
    }

    pub(super) fn vocabulary(&self) -> u32 {
        // SAFETY: reads the live vocabulary.
        let tokens = unsafe { sys::llama_vocab_n_tokens(self.vocab.as_ptr()) };
        u32::try_from(tokens).unwrap_or(0)
    }

    pub(super) fn trained_context(&self) -> u32 {
        // SAFETY: reads the live model.
        u32::try_from(unsafe { sys::llama_model_n_ctx_train(self.model.as_ptr()) }).unwrap_or(0)
    }

    /// A token's text as the vocabulary has it, and its attributes; the id must be in the vocabulary.
    pub(super) fn token(&self, token: u32) -> (String, sys::llama_token_attr) {
        assert!(token < self.vocabulary());
        // SAFETY: the id is in range; the text is a NUL-terminated string owned by the live vocabulary.
        unsafe {
            let text = sys::llama_vocab_get_text(self.vocab.as_ptr(), token as i32);
            (text_of(text).unwrap_or_default(), sys::llama_vocab_get_attr(self.vocab.as_ptr(), token as i32))
        }
    }

    pub(super) fn ends_generation(&self, token: u32) -> bool {
        // SAFETY: reads the live vocabulary; any id is allowed.
        token < self.vocabulary() && unsafe { sys::llama_vocab_is_eog(self.vocab.as_ptr(), token as i32) }
    }

    /// Beginning and end of sequence, and whether the former goes before a prompt.
    pub(super) fn special(&self) -> (Option<u32>, Option<u32>, bool) {
        // SAFETY: these read the live vocabulary; -1 stands for none.
        unsafe {
            (
                u32::try_from(sys::llama_vocab_bos(self.vocab.as_ptr())).ok(),
                u32::try_from(sys::llama_vocab_eos(self.vocab.as_ptr())).ok(),
                sys::llama_vocab_get_add_bos(self.vocab.as_ptr()),
            )
        }
    }

    /// The GGUF's chat template.
    pub(super) fn chat_template(&self) -> Option<String> {
        // SAFETY: reads the live model; null or a NUL-terminated string that it owns.
        unsafe { text_of(sys::llama_model_chat_template(self.model.as_ptr(), std::ptr::null())) }
    }

    /// Appends a token's bytes; control tokens have none.
    pub(super) fn piece(&self, token: u32, out: &mut Vec<u8>) {
        if token >= self.vocabulary() {
            return;
        }
        let mut room = 256;
        loop {
            let at = out.len();
            out.resize(at + room, 0);
            // SAFETY: the buffer has `room` bytes from `at`; the call writes at most as many and returns how many, or
            // minus how many it needs.
            let wrote = unsafe {
                let buffer = out.as_mut_ptr().add(at).cast::<c_char>();
                sys::llama_token_to_piece(self.vocab.as_ptr(), token as i32, buffer, room as i32, 0, false)
            };
            let Ok(length) = usize::try_from(wrote) else {
                out.truncate(at);
                room = wrote.unsigned_abs() as usize;
                continue;
            };
            out.truncate(at + length);
            return;
        }
    }

    /// Ids of plain text: nothing in it is read as a control token. `text` must be shorter than 1 GiB.
    pub(super) fn tokenize(&self, text: &str) -> Option<Vec<u32>> {
        // Never more tokens than bytes, but for a prefix space.
        let room = i32::try_from(text.len() + 8).ok()?;
        let mut ids = vec![0i32; room as usize];
        // SAFETY: text and its length fit, `ids` has `room` entries; the count, or minus the needed room, comes back.
        let count = unsafe {
            let text_ptr = text.as_ptr().cast::<c_char>();
            sys::llama_tokenize(self.vocab.as_ptr(), text_ptr, text.len() as i32, ids.as_mut_ptr(), room, false, false)
        };
        ids.truncate(usize::try_from(count).ok()?);
        ids.into_iter().map(|id| u32::try_from(id).ok()).collect()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: both are live and owned by this value only; the context goes first.
        unsafe {
            sys::llama_free(self.context.as_ptr());
            sys::llama_model_free(self.model.as_ptr());
        }
    }
}

impl Batch {
    fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.counts.clear();
        self.sequences.clear();
        self.logits.clear();
    }

    fn push(&mut self, row: &Row) {
        self.tokens.push(row.token as i32);
        self.positions.push(row.position as i32);
        self.counts.push(1);
        self.sequences.push(row.sequence as i32);
        self.logits.push(i8::from(row.want_logits));
    }

    fn as_raw(&mut self) -> sys::llama_batch {
        self.sequence_rows.clear();
        self.sequence_rows.extend(self.sequences.iter_mut().map(std::ptr::from_mut));
        sys::llama_batch {
            n_tokens: self.tokens.len() as i32,
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.counts.as_mut_ptr(),
            seq_id: self.sequence_rows.as_mut_ptr(),
            logits: self.logits.as_mut_ptr(),
        }
    }
}

/// # Safety
/// `text` is null or points to a NUL-terminated string that is not changed during the call.
pub(super) unsafe fn text_of(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as this function demands.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// llama.cpp's own log lines: about files and devices, never about prompts.
unsafe extern "C" fn log_line(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: llama.cpp passes a NUL-terminated string that lives through the call.
    let Some(line) = (unsafe { text_of(text) }) else {
        return;
    };
    let line = line.trim_end();
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "llama_cpp", "{line}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama_cpp", "{line}"),
        _ => tracing::trace!(target: "llama_cpp", "{line}"),
    }
}
