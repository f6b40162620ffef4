// libFuzzer target: whatever arrives on a connection never traps, every reply parses, and what is
// kept of it stays within limits. The first byte of an input says how the rest is cut up.
//
// Not part of the package's build; see README.md beside it.

import Dispatch
import SmallocCore
import SmallocWire

/// One daemon for all inputs, emptied after each. libFuzzer runs on one thread.
nonisolated(unsafe) private let daemon: LoopContext = {
    var limits = Limits()
    limits.memorySizeMax = 8 << 20
    limits.lengthSizeMax = 4 << 20
    limits.allocationsMax = 8
    limits.frameSizeMax = 1 << 20
    limits.requestsInFlightMax = 8
    limits.handlesMax = 8
    limits.outputSizeMax = 4096
    limits.lineSizeMax = 512
    let registry = Registry(limits: SharedLimits(limits), loops: 1, warmSizeMax: 1 << 20)!
    return LoopContext(registry: registry, index: 0)
}()

/// Moves everything that a session says must be moved, and keeps what it answers.
private struct Connection: ~Copyable {
    var session = Session()
    var tail: [UInt8] = []
    var output: [UInt8] = []
    var isClosed = false

    mutating func feed(_ bytes: UnsafeRawBufferPointer) {
        tail += bytes
        while !isClosed {
            if session.pause == .none, receive() { continue }
            let consumed = serve()
            take()
            switch session.pause {
            case .none: if consumed == 0 || tail.isEmpty { return check() }
            case .output, .turn: continue
            case .send: send()
            case .work where session.waitsForMemory:
                let isBack = DispatchSemaphore(value: 0)
                session.whenMemoryIsBack { isBack.signal() }
                isBack.wait()
                session.memoryIsBack()
            case .work where session.isHeldByWait:
                // No other connection notifies it.
                _ = session.cancelWaits(daemon)
                session.deliver(daemon)
                take()
            case .work:
                while session.work?.run() == false {}
                session.finish(daemon)
                take()
            case .close: isClosed = true
            }
        }
    }

    /// What was not consumed, in memory of exactly its size, so that a read beyond it is found out.
    private mutating func serve() -> Int {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: tail.count, alignment: 1)
        defer { memory.deallocate() }
        memory.copyBytes(from: tail)
        let consumed = session.serve(UnsafeRawBufferPointer(memory), daemon)
        precondition(consumed >= 0 && consumed <= tail.count, "consumed more than there was")
        tail.removeFirst(consumed)
        return consumed
    }

    private mutating func receive() -> Bool {
        let piece = session.receiveRoom(sizeMax: tail.count)
        let size = min(piece.count, tail.count)
        guard size > 0 else { return false }
        piece.copyBytes(from: tail[..<size])
        tail.removeFirst(size)
        session.received(size, daemon)
        take()
        return true
    }

    private mutating func send() {
        while session.pause == .send {
            let count = session.fillViews(sizeMax: 50_001, daemon)
            take()
            var sent = 0
            for view in UnsafeBufferPointer(start: daemon.views, count: count) {
                output += view
                sent += view.count
            }
            session.sent(sent, daemon)
        }
    }

    private mutating func take() {
        precondition(daemon.output.pointee.count < 1 << 20, "output without bounds")
        output += daemon.output.pointee.bytes
        daemon.output.pointee.reset(keeping: 128 * 1024)
    }

    private func check() { precondition(tail.count < 1 << 17, "input kept without bounds") }

    mutating func end() {
        if !isClosed {
            tail.withUnsafeBytes { session.serveEnd($0, daemon) }
            take()
        }
        session.end(daemon)
    }

    /// Traps unless the output is whole reply frames, or whole lines.
    func checkOutput(isBinary: Bool) {
        guard isBinary else {
            precondition(output.isEmpty || output.last == 0x0A, "a line of reply without its end")
            precondition(
                output.allSatisfy { ($0 >= 0x20 && $0 < 0x7F) || $0 == 0x0A }, "foreign bytes")
            return
        }
        var at = 0
        while at < output.count {
            precondition(output.count - at >= FrameHeader.byteCount, "half a header")
            let header = output.withUnsafeBytes { FrameHeader(from: $0.baseAddress! + at) }
            precondition(header.magic == FrameHeader.replyMagic, "no reply")
            #if CANARY
                // A bug put in on purpose: finding it proves that the fuzzer gets this far.
                precondition(header.status != 0x8003, "canary: an outOfRange was answered")
            #endif
            at += FrameHeader.byteCount + Int(header.payloadSize)
        }
        precondition(at == output.count, "half a payload")
    }
}

/// Disposes of everything that an input left behind.
private func tidyUp() {
    var janitor = Connection()
    Array("list\n".utf8).withUnsafeBytes { janitor.feed($0) }
    var lines = ""
    for line in String(decoding: janitor.output, as: UTF8.self).split(separator: "\n") {
        let words = line.split(separator: " ")
        if words.first == "ITEM" { lines += "dispose \(words[1])\n" }
    }
    Array(lines.utf8).withUnsafeBytes { janitor.feed($0) }
    janitor.end()
    let left = String(decoding: janitor.output, as: UTF8.self).contains("ERR ")
    precondition(!left, "something could not be disposed of")
}

/// libFuzzer calls this for each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafeRawPointer?, _ size: Int) -> CInt {
    guard let start, size > 1 else { return 0 }
    let step = max(1, Int(start.load(as: UInt8.self)) * 4)
    let input = UnsafeRawBufferPointer(start: start + 1, count: size - 1)
    var connection = Connection()
    var at = 0
    while at < input.count {
        let end = min(input.count, step > 1000 ? input.count : at + step)
        connection.feed(UnsafeRawBufferPointer(rebasing: input[at..<end]))
        at = end
    }
    connection.end()
    connection.checkOutput(isBinary: input[0] >= 0x80)
    tidyUp()
    return 0
}
