//! Every packet of a capture in one pass: bytes in, columns out.
//!
//! This file is the C interface that `analysis/kernel/__init__.py` calls; it alone is unsafe. No panic crosses it.

mod bytes;
mod columns;
mod connections;
mod decode;
mod icmp;
mod key;
mod pass;
mod records;
mod select;
mod states;
mod tcp;
mod tunnels;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;

use columns::Column;
use key::Key;
use pass::{Pass, Wanted};

/// A column as C has it; it is valid until the next call.
#[repr(C)]
pub struct View {
    name: *const u8,
    name_size: usize,
    dtype: *const u8,
    dtype_size: usize,
    data: *const u8,
    size: usize,
}

pub struct Kernel {
    pass: Pass,
    columns: Vec<Column>,
    views: Vec<View>,
}

const FAILED: usize = usize::MAX;

fn guarded<T>(failed: T, call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(failed)
}

unsafe fn slice_of<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        slice::from_raw_parts(data, size)
    }
}

/// What the columns are; Python compares it with what it expects.
#[no_mangle]
pub extern "C" fn kernel_version() -> u32 {
    2
}

/// # Safety
/// `ports` points to `size` numbers.
#[no_mangle]
pub unsafe extern "C" fn kernel_new(ports: *const u16, size: usize, limit: u64, packets: bool) -> *mut Kernel {
    let ports = slice_of(ports, size).to_vec();
    guarded(std::ptr::null_mut(), || {
        let pass = Pass::new(ports, limit, packets);
        Box::into_raw(Box::new(Kernel { pass, columns: Vec::new(), views: Vec::new() }))
    })
}

/// Select the packets of this connection only, whatever they hold.
///
/// # Safety
/// `kernel` is from `kernel_new`; `ends` points to the 32 bytes of two addresses.
#[no_mangle]
pub unsafe extern "C" fn kernel_follow(
    kernel: *mut Kernel,
    ends: *const u8,
    src_port: u16,
    dst_port: u16,
    proto: u8,
    is_v6: bool,
) {
    let (kernel, ends) = (&mut *kernel, slice_of(ends, 32));
    let (src, dst) = (bytes::u128(ends, 0).unwrap_or(0), bytes::u128(ends, 16).unwrap_or(0));
    let (key, _) = Key::of((src, src_port), (dst, dst_port), proto, is_v6);
    guarded((), || kernel.pass.follow(key));
}

/// # Safety
/// `kernel` is from `kernel_new`.
#[no_mangle]
pub unsafe extern "C" fn kernel_begin(kernel: *mut Kernel) {
    let kernel = &mut *kernel;
    guarded((), || kernel.pass.begin());
}

/// Read records from the front of the data; give how many bytes were used, or all ones for a failure.
///
/// # Safety
/// `kernel` is from `kernel_new`; `data` points to `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn kernel_feed(kernel: *mut Kernel, data: *const u8, size: usize, is_last: bool) -> usize {
    let (kernel, data) = (&mut *kernel, slice_of(data, size));
    guarded(FAILED, || kernel.pass.feed(data, is_last))
}

/// Give the columns of what is wanted, and how many they are; all ones for a failure.
///
/// # Safety
/// `kernel` is from `kernel_new`; `out` points to a pointer.
#[no_mangle]
pub unsafe extern "C" fn kernel_columns(kernel: *mut Kernel, wanted: u32, out: *mut *const View) -> usize {
    let kernel = &mut *kernel;
    guarded(FAILED, || {
        kernel.columns = match wanted {
            0 => kernel.pass.columns(Wanted::Totals),
            1 => kernel.pass.columns(Wanted::Connections),
            2 => kernel.pass.columns(Wanted::Selected),
            _ => kernel.pass.columns(Wanted::Packets),
        };
        kernel.views = kernel.columns.iter().map(View::of).collect();
        *out = kernel.views.as_ptr();
        kernel.views.len()
    })
}

/// # Safety
/// `kernel` is from `kernel_new`, and not used again.
#[no_mangle]
pub unsafe extern "C" fn kernel_free(kernel: *mut Kernel) {
    guarded((), || drop(Box::from_raw(kernel)));
}

impl View {
    fn of(column: &Column) -> View {
        View {
            name: column.name.as_ptr(),
            name_size: column.name.len(),
            dtype: column.dtype.as_ptr(),
            dtype_size: column.dtype.len(),
            data: column.data.as_ptr(),
            size: column.data.len(),
        }
    }
}
