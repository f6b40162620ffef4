// The requests that took long, the youngest of them: a ring that every loop writes to, rarely.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
public import SmallocWire
internal import Synchronization

/// The slow log.
///
/// All methods from any thread. Its memory is taken at the start.
public final class SlowLog: @unchecked Sendable {
    /// Entries that may be kept.
    public static let lengthMax = 1024

    private struct Entry {
        var id: UInt64
        var time: UInt64
        var size: UInt64
        var duration: UInt64
        var owner: UInt32
        var operation: UInt8
        var cause: UInt8
        var nameSize: UInt8
    }

    private static var entrySize: Int { MemoryLayout<Entry>.stride + 256 }
    private let memory: UnsafeMutableRawPointer
    private let lock = Lock()
    /// Entries ever made; the next one's number less 1.
    private var made: UInt64 = 0
    private var length = 128
    private let thresholdNanoseconds = Atomic<UInt64>(100_000_000)
    private let count = Atomic<UInt64>(0)

    /// Nil: there is no memory for it.
    init?() {
        guard let memory = smalloc_allocate_zeroed(SlowLog.lengthMax * SlowLog.entrySize) else {
            return nil
        }
        self.memory = memory
    }

    deinit { free(memory) }

    /// Sets what is kept from now on.
    ///
    /// - Parameters:
    ///   - threshold: Microseconds from which on a request is slow.
    ///   - length: Entries, 0 to `lengthMax`.
    public func set(threshold: UInt64, length: Int) {
        let (nanoseconds, isOver) = threshold.multipliedReportingOverflow(by: 1000)
        thresholdNanoseconds.store(isOver ? .max : nanoseconds, ordering: .relaxed)
        lock.withLock { self.length = max(0, min(length, SlowLog.lengthMax)) }
    }

    /// Nanoseconds from which on a request is slow.
    @inline(__always)
    var limit: UInt64 { thresholdNanoseconds.load(ordering: .relaxed) }

    /// Microseconds from which on a request is slow.
    public var threshold: UInt64 { limit / 1000 }

    /// Slow requests since the start.
    public var total: UInt64 { count.load(ordering: .relaxed) }

    /// Notes requests of a turn, which share its time.
    func add(_ operation: UInt8, count: UInt64, _ duration: UInt64) {
        self.count.wrappingAdd(count, ordering: .relaxed)
        insert(
            Entry(
                id: 0, time: 0, size: count, duration: duration / 1000, owner: Session.noOwner,
                operation: operation, cause: SlowRequest.Cause.nothing.rawValue, nameSize: 0),
            UnsafeRawBufferPointer(start: nil, count: 0))
    }

    /// Notes a request that was answered later, without a lock of its allocation.
    func add(
        _ operation: UInt8, _ cause: SlowRequest.Cause, _ allocation: Allocation?, size: UInt64,
        _ duration: UInt64
    ) {
        count.wrappingAdd(1, ordering: .relaxed)
        var entry = Entry(
            id: 0, time: 0, size: size, duration: duration / 1000, owner: Session.noOwner,
            operation: operation, cause: cause.rawValue, nameSize: 0)
        guard let allocation else {
            return insert(entry, UnsafeRawBufferPointer(start: nil, count: 0))
        }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        entry.owner = allocation.owner
        insert(entry, allocation.name)
    }

    private func insert(_ entry: Entry, _ name: UnsafeRawBufferPointer) {
        lock.withLock {
            var entry = entry
            made += 1
            entry.id = made
            entry.time = Clock.coarseWallTime / 1_000_000
            entry.nameSize = UInt8(name.count)
            let place = place(of: made)
            place.initializeMemory(as: Entry.self, to: entry)
            if let start = name.baseAddress {
                (place + MemoryLayout<Entry>.stride).copyMemory(
                    from: start, byteCount: name.count)
            }
        }
    }

    private func place(of id: UInt64) -> UnsafeMutableRawPointer {
        memory + Int(id % UInt64(SlowLog.lengthMax)) * SlowLog.entrySize
    }

    /// Calls back for the youngest entries, the youngest first, under the lock.
    ///
    /// - Parameters:
    ///   - countMax: How many at most.
    ///   - tellsName: Whether the name of an allocation of that user is told.
    public func forEach(
        _ countMax: UInt64, tellsName: (UInt32) -> Bool, _ body: (SlowRequest) -> Void
    ) {
        lock.withLock {
            let count = min(min(countMax, made), UInt64(length))
            for back in 0..<count {
                let place = place(of: made - back)
                let entry = place.load(as: Entry.self)
                let nameSize = tellsName(entry.owner) ? Int(entry.nameSize) : 0
                body(
                    SlowRequest(
                        id: entry.id, time: entry.time, operation: entry.operation,
                        cause: SlowRequest.Cause(rawValue: entry.cause) ?? .nothing,
                        size: entry.size, duration: entry.duration,
                        name: UnsafeRawBufferPointer(
                            start: place + MemoryLayout<Entry>.stride, count: nameSize)))
            }
        }
    }
}
