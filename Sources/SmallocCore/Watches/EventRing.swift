// What has become of names: the last events, for all that watch.
//
// There is one ring for all, and nothing in it for any of those that watch: each keeps its cursor,
// the number of the event that comes next, and is told how many it has missed. Until the first
// `watch` there is no ring, and a change of a name costs one load. From then on it costs a short
// lock and a copy of the name, however many watch.
//
// A thread that adds an event looks at no watch either. It wakes the loops that have some and have
// looked through all that came before; each then looks for its own. A loop that is behind is not
// woken again until it has caught up, so a storm of events costs each loop one message.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// The events of a registry, numbered without a gap.
///
/// All methods from any thread. Its lock comes after those of shards and allocations, and before
/// those of mailboxes.
final class EventRing: @unchecked Sendable {
    /// The number of an event: 0 for the first one of the run.
    typealias Number = UInt64

    /// One event, without its names.
    private struct Slot {
        /// Bytes of names before its own, over all time.
        var start: UInt64
        var kind: EventKind
        var nameSize: UInt8
        var newNameSize: UInt8
    }

    private struct State {
        /// Nil: nothing has watched yet.
        var slots: UnsafeMutablePointer<Slot>?
        var names: UnsafeMutableRawPointer?
        /// The number of the next event.
        var next: Number = 0
        /// The number of the first event that is there.
        var oldest: Number = 0
        /// Bytes of names over all time, with those that were passed over at the end of the memory.
        var written: UInt64 = 0
        /// Loops that want to be woken by the next event, linked through themselves.
        unowned(unsafe) var firstAsleep: LoopWaits?
    }

    /// Events that it holds, if their names fit.
    static var capacity: Int { 16_384 }
    /// Bytes of names that it holds: 64 an event.
    static var namesCapacity: Int { 1 << 20 }
    /// What it takes of the memory of all allocations.
    static var charge: UInt64 {
        UInt64(capacity * MemoryLayout<Slot>.stride + namesCapacity)
    }
    /// Events that are looked at while the lock is held: some microseconds.
    private static var lookedMax: Int { 256 }

    /// The upper 16 bits of every cursor of this run, never 0.
    private let run: UInt64
    private let isOn = Atomic<Bool>(false)
    private let lockWord: UnsafeMutableRawPointer
    private let state: UnsafeMutablePointer<State>

    /// - Parameter run: Another one for each run of a daemon, and not 0.
    init(run: UInt16) {
        self.run = UInt64(run) << EventRing.numberBits
        // A cache line of its own, which threads that only ask whether it is on do not touch.
        lockWord = .allocate(byteCount: 64, alignment: 64)
        lockWord.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    deinit {
        free(state.pointee.slots)
        free(state.pointee.names)
        state.deinitialize(count: 1)
        state.deallocate()
        lockWord.deallocate()
    }

    private var lock: ByteLock { ByteLock(lockWord) }

    /// Begins to keep events, if it does not yet.
    ///
    /// - Throws: `.memoryLimit`, `.outOfMemory`.
    func turnOn(_ budget: MemoryBudget) throws(SmallocError) {
        if isOn.load(ordering: .acquiring) { return }
        lock.lock()
        defer { lock.unlock() }
        if state.pointee.slots != nil { return }
        guard budget.charge(EventRing.charge) else { throw .memoryLimit }
        let slots = smalloc_allocate(EventRing.capacity * MemoryLayout<Slot>.stride)
        let names = smalloc_allocate(EventRing.namesCapacity)
        guard let slots, let names else {
            free(slots)
            free(names)
            budget.uncharge(EventRing.charge)
            throw .outOfMemory
        }
        state.pointee.slots = slots.bindMemory(to: Slot.self, capacity: EventRing.capacity)
        state.pointee.names = names
        isOn.store(true, ordering: .releasing)
    }

    /// Bytes charged so far.
    var chargedSize: UInt64 { isOn.load(ordering: .acquiring) ? EventRing.charge : 0 }

    // MARK: Cursors

    private static var numberBits: UInt64 { 48 }

    /// The cursor of the event of that number.
    func cursor(_ number: Number) -> UInt64 { run | number & (1 << EventRing.numberBits - 1) }

    /// The number that a cursor of a client's means; nil: it is not of this run.
    ///
    /// 0 is the next event.
    func number(_ cursor: UInt64) -> Number? {
        let next = self.next
        if cursor == 0 { return next }
        let number = cursor ^ run
        return number <= next ? number : nil
    }

    /// The number of the next event.
    var next: Number {
        lock.lock()
        defer { lock.unlock() }
        return state.pointee.next
    }

    // MARK: Adding

    /// Whether anything has ever watched; any thread, without the lock.
    @inline(__always)
    var isKept: Bool { isOn.load(ordering: .relaxed) }

    /// Adds what has become of a name, if anything has ever watched.
    ///
    /// Under the lock of the name's shard or of the allocation, so that events come in the order of
    /// what they tell.
    @inline(__always)
    func add(_ kind: EventKind, _ name: UnsafeRawBufferPointer) {
        if isOn.load(ordering: .relaxed) {
            push(kind, name, UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    /// The same of an allocation that has another name now.
    ///
    /// - Parameter name: The one that it had.
    @inline(__always)
    func add(
        _ kind: EventKind, _ name: UnsafeRawBufferPointer, newName: UnsafeRawBufferPointer
    ) {
        if isOn.load(ordering: .relaxed) { push(kind, name, newName) }
    }

    @inline(never)
    private func push(
        _ kind: EventKind, _ name: UnsafeRawBufferPointer, _ newName: UnsafeRawBufferPointer
    ) {
        lock.lock()
        defer { lock.unlock() }
        guard let slots = state.pointee.slots, let names = state.pointee.names else { return }
        let size = UInt64(name.count + newName.count)
        let capacity = UInt64(EventRing.namesCapacity)
        // Names of one event lie together: what is left at the end is passed over.
        var start = state.pointee.written
        if start % capacity + size > capacity { start += capacity - start % capacity }
        let end = start + size
        let next = state.pointee.next
        var oldest = state.pointee.oldest
        if next - oldest == UInt64(EventRing.capacity) { oldest += 1 }
        while oldest < next, slots[EventRing.index(oldest)].start + capacity < end { oldest += 1 }
        let target = names + Int(start % capacity)
        if let from = name.baseAddress { memcpy(target, from, name.count) }
        if let from = newName.baseAddress { memcpy(target + name.count, from, newName.count) }
        slots[EventRing.index(next)] = Slot(
            start: start, kind: kind, nameSize: UInt8(name.count),
            newNameSize: UInt8(newName.count))
        state.pointee.written = end
        state.pointee.oldest = oldest
        state.pointee.next = next + 1
        while let loop = state.pointee.firstAsleep {
            state.pointee.firstAsleep = loop.nextAsleep
            loop.nextAsleep = nil
            loop.isAsleep.store(false, ordering: .relaxed)
            loop.wake()
        }
    }

    private static func index(_ number: Number) -> Int { Int(number % UInt64(capacity)) }

    // MARK: Looking

    /// What came of looking for events.
    enum Looked: Equatable {
        /// There is none more.
        case atEnd
        /// As many were looked at as were to be.
        case enough
        /// The next one is too long ago.
        case missed
        /// The one that is next has such a name.
        case found
    }

    /// Looks for the next event with a name that begins with `prefix`.
    ///
    /// - Parameters:
    ///   - number: The first one to look at; moved on.
    ///   - left: Events that may be looked at; made less.
    func find(
        _ prefix: UnsafeRawBufferPointer, from number: inout Number, atMost left: inout Int
    ) -> Looked {
        while true {
            var part = min(left, EventRing.lookedMax)
            let before = part
            let looked = visit(prefix, from: &number, atMost: &part) { _, _, _ in false }
            left -= before - part
            if looked != .enough || left <= 0 { return looked }
        }
    }

    /// Calls back for the events with such a name, in their order, under the lock.
    ///
    /// - Parameters:
    ///   - number: The first one to look at; moved on.
    ///   - left: Events that may be looked at; made less.
    ///   - body: Whether it took the event; else it is the next one to look at, and `.found`.
    func visit(
        _ prefix: UnsafeRawBufferPointer, from number: inout Number, atMost left: inout Int,
        _ body: (EventKind, UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Bool
    ) -> Looked {
        lock.lock()
        defer { lock.unlock() }
        guard let slots = state.pointee.slots, let names = state.pointee.names else {
            return .atEnd
        }
        if number < state.pointee.oldest { return .missed }
        while number < state.pointee.next {
            guard left > 0 else { return .enough }
            left -= 1
            let slot = slots[EventRing.index(number)]
            let start = names + Int(slot.start % UInt64(EventRing.namesCapacity))
            let name = UnsafeRawBufferPointer(start: start, count: Int(slot.nameSize))
            let newName = UnsafeRawBufferPointer(
                start: start + name.count, count: Int(slot.newNameSize))
            if name.begins(with: prefix) || slot.newNameSize > 0 && newName.begins(with: prefix) {
                guard body(slot.kind, name, newName) else { return .found }
            }
            number += 1
        }
        return .atEnd
    }

    /// Passes over what is not there any more.
    ///
    /// - Returns: How many events that is.
    func passMissed(_ number: inout Number) -> UInt64 {
        lock.lock()
        defer { lock.unlock() }
        let oldest = state.pointee.oldest
        guard number < oldest else { return 0 }
        defer { number = oldest }
        return oldest - number
    }

    // MARK: Loops

    /// Has a loop woken by the next event, which is of the number `next`.
    ///
    /// - Returns: False: that has come already.
    func sleep(_ loop: LoopWaits, until next: Number) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        guard next == state.pointee.next else { return false }
        if !loop.isAsleep.load(ordering: .relaxed) {
            loop.isAsleep.store(true, ordering: .relaxed)
            loop.nextAsleep = state.pointee.firstAsleep
            state.pointee.firstAsleep = loop
        }
        return true
    }

    /// A loop goes.
    func forget(_ loop: LoopWaits) {
        lock.lock()
        defer { lock.unlock() }
        guard loop.isAsleep.load(ordering: .relaxed) else { return }
        loop.isAsleep.store(false, ordering: .relaxed)
        if state.pointee.firstAsleep === loop {
            state.pointee.firstAsleep = loop.nextAsleep
        } else {
            var before = state.pointee.firstAsleep
            while let other = before, other.nextAsleep !== loop { before = other.nextAsleep }
            before?.nextAsleep = loop.nextAsleep
        }
        loop.nextAsleep = nil
    }
}

extension UnsafeRawBufferPointer {
    /// Whether these are the first bytes: nearly always the first one tells.
    @inline(__always)
    fileprivate func begins(with prefix: UnsafeRawBufferPointer) -> Bool {
        guard let wanted = prefix.baseAddress, prefix.count > 0 else { return true }
        guard let start = baseAddress, count >= prefix.count else { return false }
        return start.load(as: UInt8.self) == wanted.load(as: UInt8.self)
            && memcmp(start, wanted, prefix.count) == 0
    }
}
