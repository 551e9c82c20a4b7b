//! What many tasks of a graph have in common, each once.
//!
//! Owns: the numbers of kernels, layouts, views, labels while a graph is made. Must not know: tasks. Invariant: what is equal has one number, found in O(1).

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use super::tables::{LayoutRow, Layouts, Uses};
use crate::id::{KernelId, ViewId};
use crate::kernel::{Kernel, KernelKey};
use crate::shape::{DType, Layout, View, same};

/// The kernels of a graph, each once.
#[derive(Default)]
pub(super) struct KernelTable {
    pub(super) all: Vec<Arc<dyn Kernel>>,
    pub(super) keys: Vec<KernelKey>,
    by_address: HashMap<usize, KernelId>,
    by_key: HashMap<KernelKey, KernelId>,
}

/// The numbers of what is there once.
#[derive(Default)]
pub(super) struct Interned {
    /// By what [`hash`] says.
    layouts: HashMap<u64, u32>,
    /// The layout that was asked for last.
    layout: u32,
    views: HashMap<Arc<View>, ViewId>,
    pub(super) labels: HashMap<String, u32>,
    /// By label: tasks in those of its groups that are complete.
    pub(super) counts: Vec<u32>,
}

impl KernelTable {
    /// The number of a kernel; else the key that it shares with another.
    pub(super) fn intern(&mut self, kernel: Arc<dyn Kernel>) -> (KernelId, Option<KernelKey>) {
        let address = Arc::as_ptr(&kernel).cast::<()>().addr();
        // Kernels without fields may share an address with others: those are told apart by their keys.
        let known = self.by_address.get(&address).filter(|id| Arc::ptr_eq(&self.all[id.index()], &kernel));
        if let Some(&id) = known {
            return (id, None);
        }
        let key = KernelKey::new(&*kernel, self.all.len());
        if let Some(&id) = self.by_key.get(&key) {
            let other = &*self.all[id.index()];
            let same = (other as &dyn Any).type_id() == (&*kernel as &dyn Any).type_id() && other.content() == kernel.content();
            return (id, (!same).then_some(key));
        }
        let id = KernelId::at(self.all.len());
        self.all.push(kernel);
        self.by_address.insert(address, id);
        self.by_key.insert(key.clone(), id);
        self.keys.push(key);
        (id, None)
    }
}

/// Of a layout; strides of C order if there are none.
fn hash(dtype: DType, shape: &[usize], strides: Option<&[isize]>) -> u64 {
    let mix = |hash: u64, n: u64| (hash ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    let all = shape.iter().fold(dtype as u64 + 1, |hash, &n| mix(hash, n as u64));
    strides.map_or(all, |strides| strides.iter().fold(mix(all, 1), |hash, &s| mix(hash, s as u64)))
}

impl Interned {
    pub(super) fn layout(&mut self, layouts: &mut Layouts, dtype: DType, shape: &[usize], strides: Option<&[isize]>) -> u32 {
        let is_it = |row: &LayoutRow| {
            row.home.dtype == dtype
                && same(&row.home.shape, shape)
                && strides.map_or_else(|| Arc::ptr_eq(&row.home, &row.pooled), |strides| same(&row.home.strides, strides))
        };
        if layouts.rows.get(self.layout as usize).is_some_and(is_it) {
            return self.layout;
        }
        let mut hash = hash(dtype, shape, strides);
        self.layout = loop {
            match self.layouts.get(&hash) {
                Some(&at) if is_it(&layouts.rows[at as usize]) => break at,
                Some(_) => hash = hash.wrapping_add(1),
                None => {
                    let layout = strides.map_or_else(
                        || Layout::contiguous(dtype, shape),
                        |strides| Layout { dtype, shape: shape.to_vec(), strides: strides.to_vec() },
                    );
                    layouts.rows.push(LayoutRow::new(layout));
                    self.layouts.insert(hash, layouts.rows.len() as u32 - 1);
                    break layouts.rows.len() as u32 - 1;
                }
            }
        };
        self.layout
    }
    pub(super) fn view(&mut self, operands: &mut Uses, view: &View) -> ViewId {
        if let Some(&id) = self.views.get(view) {
            return id;
        }
        let (id, view) = (ViewId::at(operands.views.len()), Arc::new(view.clone()));
        operands.view_shapes.push(view.shape().into());
        operands.views.push(view.clone());
        self.views.insert(view, id);
        id
    }
}
