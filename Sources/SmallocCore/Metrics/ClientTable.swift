// The connections of a loop, as other threads may look at them: the loop writes into a block of
// each, and a table finds the blocks.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
public import SmallocWire
internal import Synchronization

/// A pointer to what is told of one connection.
///
/// Its loop's thread writes it, by plain stores; others read it under the lock of its table.
public struct ClientRecord: Equatable, @unchecked Sendable {
    /// What is counted, or was last seen.
    public enum Key: Int, CaseIterable {
        case id, openedAt, handles, waiting, maps, isPaused, read, written, requests, mode
        /// Bytes of what the client calls itself; written last.
        case nameSize
        /// The user above the process.
        case peer
        case isTCP
    }

    private static let keyCount = Key.allCases.count
    fileprivate static var size: Int { keyCount * 8 + Limits.softwareSizeMax }

    private let words: UnsafeMutablePointer<Atomic<UInt64>>

    fileprivate init(_ memory: UnsafeMutableRawPointer) {
        words = memory.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    fileprivate var address: UnsafeMutableRawPointer { UnsafeMutableRawPointer(words) }

    private var name: UnsafeMutableRawPointer { address + ClientRecord.keyCount * 8 }

    /// A number of it.
    @inline(__always)
    public subscript(key: Key) -> UInt64 {
        get { words[key.rawValue].load(ordering: .relaxed) }
        nonmutating set { words[key.rawValue].store(newValue, ordering: .relaxed) }
    }

    /// Adds to a number.
    @inline(__always)
    public func add(_ key: Key, _ amount: Int) {
        self[key] = self[key] &+ UInt64(truncatingIfNeeded: amount)
    }

    /// Notes what the client calls itself, once.
    public func setName(_ given: ClientName) {
        given.bytes.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            name.copyMemory(from: start, byteCount: min(bytes.count, Limits.softwareSizeMax))
        }
        words[Key.nameSize.rawValue].store(UInt64(given.bytes.count), ordering: .releasing)
    }

    /// What it says at this moment.
    func status(now: UInt64) -> ClientStatus {
        let size = words[Key.nameSize.rawValue].load(ordering: .acquiring)
        let (owner, process) = (UInt32(self[.peer] >> 32), UInt32(truncatingIfNeeded: self[.peer]))
        return ClientStatus(
            id: self[.id], owner: owner == Session.noOwner ? nil : owner,
            process: process == 0 ? nil : process,
            mode: ClientStatus.Mode(rawValue: UInt8(truncatingIfNeeded: self[.mode])) ?? .none,
            isTCP: self[.isTCP] != 0, isPaused: self[.isPaused] != 0,
            age: (now > self[.openedAt] ? now - self[.openedAt] : 0) / 1_000_000,
            handles: self[.handles], waitingSize: self[.waiting], maps: self[.maps],
            readSize: self[.read], writtenSize: self[.written], requests: self[.requests],
            software: UnsafeRawBufferPointer(
                start: name, count: min(Int(size), Limits.softwareSizeMax)))
    }

    /// The user; `Session.noOwner` over TCP.
    var owner: UInt32 { UInt32(self[.peer] >> 32) }
}

/// The connections of one loop.
///
/// `add` and `remove` are its loop's; all else any thread's.
public final class ClientTable: @unchecked Sendable {
    /// Slots that are looked at under one hold of the lock.
    static let slotsAtOnce = 64

    /// Guarded by the lock.
    ///
    /// A free slot holds the next free one, shifted, with the low bit set.
    private var slots: UnsafeMutablePointer<UInt>?
    private var capacity = 0
    private var used = 0
    private var firstFree: UInt = 0
    private let lock = Lock()

    init() {}

    deinit { free(slots) }

    /// Makes a record of a connection.
    ///
    /// - Parameters:
    ///   - id: No other connection's.
    ///   - process: Of the client; nil: it is not known.
    /// - Returns: Nil: there is no memory for it.
    public func add(
        id: UInt64, owner: UInt32, process: Int32?, isTCP: Bool
    ) -> ClientRecord? {
        guard let memory = smalloc_allocate_zeroed(ClientRecord.size + 8) else { return nil }
        let record = ClientRecord(memory)
        record[.id] = id
        record[.openedAt] = Clock.now
        record[.peer] = UInt64(owner) << 32 | UInt64(UInt32(clamping: process ?? 0))
        record[.isTCP] = isTCP ? 1 : 0
        guard insert(memory) else {
            free(memory)
            return nil
        }
        return record
    }

    private func insert(_ memory: UnsafeMutableRawPointer) -> Bool {
        lock.withLock {
            var index = Int(firstFree) - 1
            if index < 0 {
                guard used < capacity || grow() else { return false }
                index = used
                used += 1
            } else if let slots {
                firstFree = slots[index] >> 1
            }
            (memory + ClientRecord.size).storeBytes(of: index, as: Int.self)
            slots?[index] = UInt(bitPattern: memory)
            return true
        }
    }

    private func grow() -> Bool {
        let wider = max(64, capacity * 2)
        guard let memory = smalloc_reallocate(slots, wider * MemoryLayout<UInt>.stride) else {
            return false
        }
        slots = memory.bindMemory(to: UInt.self, capacity: wider)
        capacity = wider
        return true
    }

    /// The connection has ended.
    public func remove(_ record: ClientRecord) {
        lock.withLock {
            let index = (record.address + ClientRecord.size).load(as: Int.self)
            slots?[index] = firstFree << 1 | 1
            firstFree = UInt(index) + 1
        }
        free(record.address)
    }

    /// Calls back for some records, under the lock.
    ///
    /// - Parameters:
    ///   - start: The slot to begin with.
    ///   - body: Says whether it takes the record; if not, it is called for it the next time.
    /// - Returns: The slot to go on with; nil: there are no more.
    func forEach(from start: Int, _ body: (ClientRecord) -> Bool) -> Int? {
        lock.withLock {
            guard let slots, start < used else { return nil }
            let end = min(start + ClientTable.slotsAtOnce, used)
            for index in start..<end where slots[index] & 1 == 0 {
                if let memory = UnsafeMutableRawPointer(bitPattern: slots[index]),
                    !body(ClientRecord(memory))
                {
                    return index
                }
            }
            return end < used ? end : nil
        }
    }
}

extension Registry {
    /// A number that no connection has had.
    public func nextClient() -> UInt64 {
        clientCount.wrappingAdd(1, ordering: .relaxed).newValue
    }

    /// The connections with most traffic, at most `limit`, the first one first, and how many there
    /// are.
    ///
    /// From any thread but those of loops.
    public func clients(limit: Int) -> (rows: [ClientRow], total: Int) {
        var rows: [ClientRow] = []
        var total = 0
        var least = 0
        let now = Clock.now
        for table in clientTables {
            var slot: Int? = 0
            while let start = slot {
                slot = table.forEach(from: start) { record in
                    total += 1
                    let traffic = record[.read] &+ record[.written]
                    if rows.count < limit {
                        rows.append(ClientRow(record.status(now: now)))
                    } else if limit > 0, traffic > rows[least].traffic {
                        rows[least] = ClientRow(record.status(now: now))
                    } else {
                        return true
                    }
                    if rows.count == limit {
                        for index in rows.indices where rows[index].traffic < rows[least].traffic {
                            least = index
                        }
                    }
                    return true
                }
            }
        }
        rows.sort { $0.traffic > $1.traffic }
        return (rows, total)
    }
}

/// What is told of a connection, on its own.
public struct ClientRow {
    /// Without the name, which is in `software`.
    public let status: ClientStatus
    /// What the client calls itself; any bytes.
    public let software: [UInt8]

    /// Bytes in both directions.
    public var traffic: UInt64 { status.readSize &+ status.writtenSize }

    init(_ status: ClientStatus) {
        software = Array(status.software)
        var status = status
        status.software = UnsafeRawBufferPointer(start: nil, count: 0)
        self.status = status
    }
}
