// How much of a large transfer a loop moves at a time. The core's own decisions of this kind stand
// in SmallocCore/Thresholds.swift.

/// Sizes in bytes of what one connection may move before others have their turn.
struct ChunkSizes {
    /// An allocation's bytes that one system call receives at most.
    ///
    /// A peer that keeps up could hold the loop in one call for a gigabyte.
    let receivedSize: Int
    /// The same of what one system call sends.
    ///
    /// A Unix socket takes as much only while its reader keeps up.
    let sentSize: Int
    /// Bytes that one peer sends or receives in a row.
    let turn: Int

    static let fine = ChunkSizes(
        receivedSize: 32 << 10, sentSize: 32 << 10, turn: 32 << 10)
    static let coarse = ChunkSizes(
        receivedSize: 1 << 20, sentSize: 1 << 20, turn: 1 << 20)
    /// The same over TCP.
    ///
    /// Received in larger pieces, 64 MiB took a tenth longer: data that comes meanwhile waits for
    /// the end of the call. Sent in smaller pieces, 1 MiB took a tenth longer.
    static let coarseTCP = ChunkSizes(
        receivedSize: 256 << 10, sentSize: 1 << 20, turn: 1 << 20)
}

/// When connections of a loop were last answered at once: a client that asks for small things
/// should not wait for others' large transfers.
struct RecentActivity {
    /// How long after a small request another one is expected.
    static let milliseconds: UInt64 = 2

    /// The connection that was last answered at once, and when.
    private var last: ObjectIdentifier?
    private var lastAt: UInt64 = 0
    /// The last time that it was another connection than that of `last`.
    private var othersAt: UInt64 = 0

    /// A connection was answered at once.
    @inline(__always)
    mutating func note(_ peer: ObjectIdentifier, at now: UInt64) {
        if last != .some(peer) {
            othersAt = lastAt
            last = peer
        }
        lastAt = now
    }

    /// How a connection's large transfers are sliced: finely if another one may want its turn.
    ///
    /// A small request then waits for a slice of a dozen microseconds; coarse slices are faster.
    /// The connection's own small requests do not count: its transfer can't hold them up.
    func chunkSizes(
        of peer: ObjectIdentifier, at now: UInt64, orElse coarse: ChunkSizes = .coarse
    ) -> ChunkSizes {
        let quickAt = last == .some(peer) ? othersAt : lastAt
        return now - quickAt <= RecentActivity.milliseconds ? .fine : coarse
    }
}
