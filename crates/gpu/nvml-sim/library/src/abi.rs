//! What comes over the C boundary, as types that check before they touch.
//!
//! NVML's contract with a caller is that a pointer is null or points to enough memory of the right
//! type, and that nobody else uses that memory during the call. These types are such pointers. They
//! are made by C alone, as arguments of exported functions, and each refuses null with
//! `INVALID_ARGUMENT`; so the calls themselves need no `unsafe`.

pub(crate) mod legacy;

use std::ffi::{CStr, c_char, c_uint};

use nvml_sim::Return;

/// A pointer that a value is written through, or read from and written through.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Out<T> {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T: Copy> Out<T> {
    /// Refuses a null pointer.
    pub(crate) fn check(self) -> Result<Out<T>, Return> {
        if self.0.is_null() {
            Err(Return::INVALID_ARGUMENT)
        } else {
            Ok(self)
        }
    }

    /// Writes the value.
    pub(crate) fn set(self, value: T) -> Result<(), Return> {
        self.check()?;
        // SAFETY: not null, so by NVML's contract valid for writing a T. C promises no alignment to
        // a Rust type.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Reads the value that the caller put there.
    pub(crate) fn get(self) -> Result<T, Return> {
        self.check()?;
        // SAFETY: not null, so by NVML's contract it points to a T that the caller has filled.
        // Every T that is read is made of numbers, pointers and arrays of them, for which any bytes
        // are a value.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The version word at the start of a versioned struct. Nothing else is read: the struct may be
    /// a shorter one.
    pub(crate) fn version(self) -> Result<c_uint, Return> {
        self.cast::<c_uint>().get()
    }

    /// The same pointer to another of a struct's versions.
    pub(crate) fn cast<U: Copy>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// The `index`th value of an array that the caller made at least that long.
    pub(crate) fn at(self, index: usize) -> Result<Out<T>, Return> {
        self.check()?;
        Ok(Out(self.0.wrapping_add(index)))
    }

    /// Writes an array that the caller made large enough, by a promise that NVML's documentation
    /// asks for.
    pub(crate) fn set_all(self, values: &[T]) -> Result<(), Return> {
        self.check()?;
        for (index, value) in values.iter().enumerate() {
            self.at(index)?.set(*value)?;
        }
        Ok(())
    }

    /// Writes an array of which `count` says how long it is; `count` then says how many there are.
    ///
    /// An array that is too short, or null, stays as it is and the answer is `INSUFFICIENT_SIZE`,
    /// unless there is nothing to write.
    pub(crate) fn set_counted(self, count: Out<c_uint>, values: &[T]) -> Result<(), Return> {
        let room = count.get()? as usize;
        count.set(length(values.len()))?;
        if values.is_empty() {
            Ok(())
        } else if room < values.len() {
            Err(Return::INSUFFICIENT_SIZE)
        } else {
            self.set_all(values)
        }
    }
}

/// A buffer for a C string; its length comes as another argument.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Text(*mut c_char);

impl Text {
    /// Writes the text and its closing zero into a buffer of `length` bytes.
    pub(crate) fn set(self, length: c_uint, text: &str) -> Result<(), Return> {
        let out = Out(self.0.cast::<u8>()).check()?;
        if (length as usize) <= text.len() {
            return Err(Return::INSUFFICIENT_SIZE);
        }
        out.set_all(text.as_bytes())?;
        out.at(text.len())?.set(0)
    }

    /// As [`Text::set`], but a text that is too long is cut.
    pub(crate) fn set_cut(self, length: c_uint, text: &str) -> Result<(), Return> {
        let out = Out(self.0.cast::<u8>()).check()?;
        let room = (length as usize)
            .checked_sub(1)
            .ok_or(Return::INSUFFICIENT_SIZE)?;
        let bytes = text.as_bytes();
        let cut = bytes.get(..room).unwrap_or(bytes);
        out.set_all(cut)?;
        out.at(cut.len())?.set(0)
    }
}

/// A C string from the caller.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct TextIn(*const c_char);

impl TextIn {
    /// The text. What is not UTF-8 is no name of anything here.
    pub(crate) fn get(&self) -> Result<&str, Return> {
        if self.0.is_null() {
            return Err(Return::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so by NVML's contract a string that ends with a zero and stays as it is
        // during the call, which is longer than this borrow of the argument.
        unsafe { CStr::from_ptr(self.0) }
            .to_str()
            .map_err(|_| Return::NOT_FOUND)
    }
}

/// A pointer that a value is read from.
#[repr(transparent)]
pub(crate) struct In<T>(*const T);

impl<T: Copy> In<T> {
    /// Reads the value.
    pub(crate) fn get(self) -> Result<T, Return> {
        Out(self.0.cast_mut()).get()
    }

    /// The version word at the start of a versioned struct.
    pub(crate) fn version(&self) -> Result<c_uint, Return> {
        Out(self.0.cast_mut()).version()
    }
}

/// A struct's version word as `nvml.h` makes it: its size, and its version in the highest byte.
pub(crate) const fn version_of<T>(version: u32) -> c_uint {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "no struct of NVML has 16 MiB"
    )]
    let size = size_of::<T>() as u32;
    size | (version << 24)
}

/// Refuses a struct of another version than `T`'s.
pub(crate) fn expect_version<T: Copy>(found: c_uint, version: u32) -> Result<(), Return> {
    if found == version_of::<T>(version) {
        Ok(())
    } else {
        Err(Return::ARGUMENT_VERSION_MISMATCH)
    }
}

/// Text as a fixed array of C characters, cut where it is too long, with a closing zero.
pub(crate) fn chars<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    let room = N.saturating_sub(1);
    for (to, from) in array.iter_mut().zip(text.bytes().take(room)) {
        *to = c_char::from_ne_bytes([from]);
    }
    array
}

/// A length as NVML counts.
pub(crate) fn length(length: usize) -> c_uint {
    c_uint::try_from(length).unwrap_or(c_uint::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out<T>(value: &mut T) -> Out<T> {
        Out(value)
    }

    #[test]
    fn null_is_refused_and_not_touched() {
        let null = Out::<u32>(std::ptr::null_mut());
        assert_eq!(null.set(1), Err(Return::INVALID_ARGUMENT));
        assert_eq!(null.get(), Err(Return::INVALID_ARGUMENT));
        assert_eq!(null.set_all(&[]), Err(Return::INVALID_ARGUMENT));
        assert_eq!(
            Text(std::ptr::null_mut()).set(9, "x"),
            Err(Return::INVALID_ARGUMENT)
        );
        assert_eq!(
            TextIn(std::ptr::null()).get(),
            Err(Return::INVALID_ARGUMENT)
        );
    }

    #[test]
    fn a_text_needs_room_for_its_closing_zero() {
        let mut buffer = [0x55_i8; 4];
        let text = Text(buffer.as_mut_ptr().cast());
        assert_eq!(text.set(3, "abc"), Err(Return::INSUFFICIENT_SIZE));
        assert_eq!(buffer, [0x55; 4]);
        assert_eq!(text.set(4, "abc"), Ok(()));
        assert_eq!(buffer.map(i8::cast_unsigned), *b"abc\0");
        assert_eq!(text.set_cut(3, "wxyz"), Ok(()));
        assert_eq!(buffer.map(i8::cast_unsigned), *b"wx\0\0");
    }

    #[test]
    fn a_short_array_is_left_alone_and_its_count_says_what_is_needed() {
        let (mut array, mut count) = ([9_u32; 3], 2);
        let values = [1, 2, 3];
        let result = Out(array.as_mut_ptr()).set_counted(out(&mut count), &values);
        assert_eq!(
            (result, count, array),
            (Err(Return::INSUFFICIENT_SIZE), 3, [9; 3])
        );
        let result = Out(array.as_mut_ptr()).set_counted(out(&mut count), &values);
        assert_eq!((result, count, array), (Ok(()), 3, values));
        let null = Out::<u32>(std::ptr::null_mut());
        count = 0;
        assert_eq!(null.set_counted(out(&mut count), &[]), Ok(()));
    }

    #[test]
    fn characters_are_cut_with_a_closing_zero() {
        assert_eq!(chars::<4>("abcdef").map(|c| c.to_ne_bytes()[0]), *b"abc\0");
        assert_eq!(chars::<4>("a").map(|c| c.to_ne_bytes()[0]), *b"a\0\0\0");
    }
}
