// How much of a large transfer a loop moves at a time.

/// Sizes in bytes of what one connection may move before others have their turn.
struct Slicing {
    /// An allocation's bytes that one system call moves at most.
    ///
    /// A peer that keeps up could hold the loop in one call for a gigabyte.
    let size: Int
    /// Bytes that one peer sends or receives in a row.
    let turn: Int

    static let fine = Slicing(size: 32 << 10, turn: 32 << 10)
    static let coarse = Slicing(size: 256 << 10, turn: 512 << 10)

    /// How long after a small request another one is expected.
    static let quickMilliseconds: UInt64 = 2
}
