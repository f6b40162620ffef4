// The elements of an allocation that a command is about, checked before anything is printed.

import Smalloc

/// Elements that were inside an allocation when it was opened.
struct ElementRange {
    /// First element.
    let start: Int
    /// Elements.
    let count: Int

    /// Judges a whole range, of which later only blocks are asked for, in the daemon's words.
    ///
    /// - Parameters:
    ///   - allocation: Where they are.
    ///   - start: First element, any number.
    ///   - count: Elements, any number; nil for all from `start` on.
    /// - Throws: `.outOfRange`.
    init(
        _ allocation: Allocation, from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) {
        let length = allocation.length
        guard start >= 0, start <= length else {
            throw .outOfRange("start > length").detailed("start \(start), length \(length)")
        }
        let count = count ?? length - start
        guard count >= 0, count <= length - start else {
            throw .outOfRange("start + count > length")
                .detailed("start \(start), count \(count), length \(length)")
        }
        self.start = start
        self.count = count
    }
}
