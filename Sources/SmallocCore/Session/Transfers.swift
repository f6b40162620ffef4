// Data of large requests, which moves straight between a socket and an allocation.

internal import SmallocWire

extension Session {
    /// Whether the next bytes of input are data of a large write.
    public var expectsData: Bool { incoming != nil }

    /// Where the next bytes of input belong, if they are data of a large write; else empty.
    ///
    /// Bytes put there are told by `received`, not served.
    ///
    /// - Parameter sizeMax: Bytes that will come at most.
    public func receiveRoom(sizeMax: Int) -> UnsafeMutableRawBufferPointer {
        incoming?.room(sizeMax: sizeMax) ?? UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    /// `count` bytes, or none, have arrived in `receiveRoom`.
    ///
    /// The last ones are answered.
    public mutating func received(_ count: Int, _ loop: LoopContext) {
        guard let incoming else { return }
        incoming.received(count)
        if incoming.left == 0 { endReceiving(incoming, loop) }
    }

    /// Whether a request is not done with: in binary mode the next bytes are its payload then.
    @inline(__always)
    var isMidRequest: Bool {
        if case .none = progress { false } else { true }
    }

    /// Takes input that belongs to a write begun, or to a payload refused.
    ///
    /// 0: there is neither.
    mutating func absorb(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        if let incoming {
            let taken = incoming.take(input)
            if incoming.left == 0 { endReceiving(incoming, loop) }
            return taken
        }
        guard case .refusing(let refusal) = progress else { return 0 }
        let size = refusal.drop(input.count)
        if refusal.left == 0 {
            progress = .none
            refusal.reply(to: loop.output)
        }
        return size
    }

    mutating func endReceiving(_ pieces: Pieces, _ loop: LoopContext) {
        progress = .none
        expectsBulk = true
        var reply = FrameReplies(
            output: loop.output, operation: pieces.operation, cookie: pieces.cookie)
        reply.done(size: UInt64(pieces.size))
        noteEnd(of: pieces, loop)
        loop.registry.end(pieces)
    }

    // MARK: Straight out of an allocation

    /// What must leave next, after the output: copied to it where the ranges are small, else as
    /// views.
    ///
    /// - Parameter sizeMax: Bytes that one system call sends at most.
    /// - Returns: Views of the loop's `views`; 0 if there is nothing but output.
    public mutating func fillViews(sizeMax: Int, _ loop: LoopContext) -> Int {
        guard pause == .send, let outgoing else { return 0 }
        if loop.output.pointee.count < Thresholds.copiedSizeMax {
            _ = outgoing.copy(
                to: loop.output, sizeMax: Thresholds.copiedSizeMax, isForced: outgoing.mustCopy)
        }
        let count = outgoing.fill(loop.views, sizeMax: sizeMax)
        if outgoing.left == 0 { endSending(outgoing, loop) }
        return count
    }

    /// Copies what must leave next to the output: the socket is full, and no pointer is kept until
    /// it is not.
    public mutating func copyNext(sizeMax: Int, _ loop: LoopContext) {
        guard pause == .send, let outgoing else { return }
        _ = outgoing.copy(
            to: loop.output, sizeMax: min(sizeMax, Thresholds.copiedSizeMax), isForced: true)
        if outgoing.left == 0 { endSending(outgoing, loop) }
    }

    /// `count` bytes of the views have left.
    public mutating func sent(_ count: Int, _ loop: LoopContext) {
        guard let outgoing else { return }
        outgoing.sent(count)
        if outgoing.left == 0 { endSending(outgoing, loop) }
    }

    mutating func endSending(_ pieces: Pieces, _ loop: LoopContext) {
        progress = .none
        noteEnd(of: pieces, loop)
        loop.registry.end(pieces)
        if pause == .send { pause = .none }
    }
}
