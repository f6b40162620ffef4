// Requests over the daemon's limit of requests in flight, which wait for replies to earlier ones.

internal import SmallocWire

/// What waits to be put into the output until replies have come, in order.
struct UnsentQueue {
    enum Item {
        case frame(FrameHeader, [UInt8], OutgoingData?)
        /// The frames of a batch from an offset on, and how many they are.
        case rest(BatchRecord, from: Int, count: Int)
        /// What has been sent, and is kept no longer.
        case sent
    }

    private var items: [Item] = []
    private var start = 0

    var isEmpty: Bool { start == items.count }
    /// Places that it takes.
    var places: Int { items.count }
    var first: Item { items[start] }

    @inline(never)
    mutating func append(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, _ data: OutgoingData?
    ) {
        items.append(.frame(header, Array(body), data))
    }

    mutating func append(_ item: Item) { items.append(item) }

    mutating func setFirst(_ item: Item) { items[start] = item }

    mutating func removeFirst() {
        items[start] = .sent
        start += 1
        if start == items.count {
            items.removeAll(keepingCapacity: items.capacity <= 4096)
            start = 0
        }
        // What was sent goes now and then, so that what is never empty does not grow either.
        if start > 64, start * 2 > items.count {
            items.removeSubrange(..<start)
            start = 0
        }
    }

    mutating func removeAll() {
        items = []
        start = 0
    }
}
