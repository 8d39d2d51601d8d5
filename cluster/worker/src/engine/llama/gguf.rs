//! The metadata of a GGUF file: what llama.cpp's model interface does not hand out, such as merges.

use super::raw::text_of;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::Path;
use std::ptr::NonNull;

/// Metadata of a GGUF file, without its tensors.
pub(super) struct Metadata(NonNull<sys::gguf_context>);

impl Metadata {
    pub(super) fn open(path: &Path) -> Option<Metadata> {
        let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
        let params = sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        // SAFETY: the path lives through the call; with `no_alloc` and no context, tensors are not read.
        NonNull::new(unsafe { sys::gguf_init_from_file(path.as_ptr(), params) }).map(Metadata)
    }

    /// A text value; `None` when the key is missing or holds something else.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let id = self.find(key, sys::GGUF_TYPE_STRING)?;
        // SAFETY: the key exists and is a string, otherwise the call would abort; the string is owned by the metadata.
        unsafe { text_of(sys::gguf_get_val_str(self.0.as_ptr(), id)) }
    }

    /// An array of texts; empty when the key is missing or holds something else.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let Some(id) = self.find(key, sys::GGUF_TYPE_ARRAY) else {
            return Vec::new();
        };
        // SAFETY: the key exists and is an array; its element type is checked, and indices are below its length.
        unsafe {
            if sys::gguf_get_arr_type(self.0.as_ptr(), id) != sys::GGUF_TYPE_STRING {
                return Vec::new();
            }
            (0..sys::gguf_get_arr_n(self.0.as_ptr(), id))
                .map(|at| text_of(sys::gguf_get_arr_str(self.0.as_ptr(), id, at)).unwrap_or_default())
                .collect()
        }
    }

    fn find(&self, key: &str, kind: sys::gguf_type) -> Option<i64> {
        let key = CString::new(key).ok()?;
        // SAFETY: the metadata is live and the key NUL-terminated; -1 stands for none.
        unsafe {
            let id = sys::gguf_find_key(self.0.as_ptr(), key.as_ptr());
            (id >= 0 && sys::gguf_get_kv_type(self.0.as_ptr(), id) == kind).then_some(id)
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: live, owned by this value only.
        unsafe { sys::gguf_free(self.0.as_ptr()) }
    }
}
