// What a session is in the middle of: one thing at a time, and nothing most of the time.

internal import CSmalloc
internal import Glibc
internal import SmallocWire

/// What a connection is in the middle of; its next request waits for that.
enum Progress {
    case none
    /// Data is on its way out of an allocation.
    case sending(Pieces)
    /// Data is on its way into one.
    case receiving(Pieces)
    /// A payload goes by that nothing is done with.
    case refusing(Refusal)
    /// A request is at work, or waits for memory.
    case waiting(Pending)
}

extension Session {
    /// What leaves an allocation, if anything.
    var outgoing: Pieces? {
        if case .sending(let pieces) = progress { pieces } else { nil }
    }

    /// What arrives in one, if anything.
    var incoming: Pieces? {
        if case .receiving(let pieces) = progress { pieces } else { nil }
    }

    /// The request that those behind it wait for, if any.
    var ordered: Pending? {
        if case .waiting(let pending) = progress { pending } else { nil }
    }
}

extension Session {
    /// Traps where the state contradicts itself.
    ///
    /// Called after each step in tests.
    func checkInvariants() {
        switch progress {
        case .none:
            precondition(pause != .send && pause != .work, "a pause for nothing")
        case .sending(let pieces):
            precondition(pieces.left > 0, "a request that is done with")
            precondition(mode == .text || pause == .send || pause == .close)
            pieces.checkInvariants()
        case .receiving(let pieces):
            precondition(mode == .frames && pieces.left > 0, "a request that is done with")
            pieces.checkInvariants()
        case .refusing(let refusal):
            precondition(mode == .frames && refusal.left > 0, "a payload that has gone by")
        case .waiting:
            precondition(pause == .work || pause == .close, "a request that nothing waits for")
        }
        precondition(mode == .text || continuation == nil, "frames have no continuation")
        let waits = caller.waits?.count ?? 0
        precondition(waits <= (mode == .text ? 1 : Limits.waitsMax))
        precondition(mode != .text || waits == 0 || isHeldByWait || pause == .close)
        precondition(!isGreeted || mode == .frames, "text is never greeted")
        if caller.handles.count < 4096 { caller.handles.checkInvariants() }
    }
}

/// A refused request whose payload is still on its way, and its reply, which leaves when that has
/// gone by.
final class Refusal {
    /// Bytes of payload that are still to come.
    private(set) var left: UInt64
    private let bytes: UnsafeMutableRawPointer
    private let count: Int

    /// Takes what the output holds beyond its first `start` bytes.
    ///
    /// Nil: no memory for it.
    init?(_ output: UnsafeMutablePointer<Output>, from start: Int, payloadSize: UInt64) {
        count = output.pointee.count - start
        guard let memory = smalloc_allocate(count) else { return nil }
        bytes = memory
        left = payloadSize
        bytes.copyMemory(from: output.pointee.base + start, byteCount: count)
        output.pointee.truncate(to: start)
    }

    deinit { free(bytes) }

    /// Passes over payload.
    ///
    /// - Returns: Bytes of it, at most `size`.
    func drop(_ size: Int) -> Int {
        let dropped = Int(min(left, UInt64(size)))
        left -= UInt64(dropped)
        return dropped
    }

    /// Puts the reply behind what the output holds.
    func reply(to output: UnsafeMutablePointer<Output>) { output.pointee.append(bytes, count) }
}
