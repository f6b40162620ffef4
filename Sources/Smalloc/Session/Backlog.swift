// Requests over the daemon's limit of requests in flight.

internal import SmallocSystem
internal import SmallocWire

/// What waits to be put into the output until replies have come, in order.
struct Backlog {
    enum Item {
        case frame(FrameHeader, [UInt8], (source: any Source, offset: Int, size: Int)?)
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
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer,
        _ data: (source: any Source, offset: Int, size: Int)?
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

extension Link {
    /// Places that the backlog takes.
    var backlogSize: Int { lock.withLock { backlog.places } }

    /// Replies have come: there is room for as many more.
    ///
    /// Under the lock.
    @inline(__always)
    func replied(_ count: Int = 1) {
        inFlight -= count
        if !backlog.isEmpty { sendBacklog() }
    }

    private func sendBacklog() {
        while !backlog.isEmpty, inFlight < inFlightMax {
            switch backlog.first {
            case .sent: backlog.removeFirst()
            case .frame(let header, let body, let data):
                backlog.removeFirst()
                send(header, body, data)
            case .rest(let record, let offset, let count):
                let slot = slots.at(record.carrier)
                guard slot.pointee.batch === record, !isUnwanted(record.carrier) else {
                    backlog.removeFirst()
                    skip(record, from: offset)
                    continue
                }
                if let rest = put(record, from: offset, count) {
                    backlog.setFirst(rest)
                } else {
                    backlog.removeFirst()
                }
            }
        }
    }

    /// Forgets what of a batch has not been sent, as nobody waits for it any more.
    private func skip(_ record: BatchRecord, from offset: Int) {
        guard slots.at(record.carrier).pointee.batch === record else { return }
        record.skip(from: offset)
        if record.unanswered == 0 {
            _ = slots.finish(record.carrier, Answer(), replied: true)
        }
    }

    private func isUnwanted(_ index: Int) -> Bool {
        let state = slots.at(index).pointee.state
        return state == .abandoned || state == .cancelled
    }

    private func send(
        _ header: FrameHeader, _ body: [UInt8],
        _ data: (source: any Source, offset: Int, size: Int)?
    ) {
        // One that was cancelled before it was sent need not be sent, unless it frees something.
        if let index = slots.index(of: header.cookie), isUnwanted(index),
            header.operation != Operation.close.rawValue,
            header.operation != Operation.dispose.rawValue
        {
            _ = slots.finish(index, Answer(), replied: true)
            return
        }
        inFlight += 1
        body.withUnsafeBytes {
            if let data {
                outgoing.append(header, body: $0, data: data)
            } else {
                outgoing.append(header, body: $0)
            }
        }
    }

    /// Puts as many of a batch's frames into the output as may be under way.
    ///
    /// Under the lock.
    ///
    /// - Returns: The others.
    func put(_ record: BatchRecord, from offset: Int, _ count: Int) -> Backlog.Item? {
        let most = max(0, min(count, inFlightMax - inFlight))
        let end = record.dispatch(most, from: offset)
        inFlight += most
        if most > 0 { outgoing.append(record, from: offset, to: end) }
        return most < count ? .rest(record, from: end, count: count - most) : nil
    }
}
