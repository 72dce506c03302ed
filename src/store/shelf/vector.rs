//! How vectors grow and shrink here, where they are what the memory is for.

/// They grow by an eighth.
pub(super) fn make_room<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(4));
    }
}

pub(super) fn shrink<T>(vector: &mut Vec<T>) {
    if vector.len() < vector.capacity() / 4 {
        vector.shrink_to(vector.len() * 2);
    }
}
