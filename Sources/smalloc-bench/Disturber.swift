// The client that moves gigabytes while another one reads a few bytes.

import Glibc
import Synchronization

/// Another client, on a thread of its own.
final class Disturber: @unchecked Sendable {
    /// What it has the server do.
    enum Kind: String, CaseIterable {
        /// Copies of 1 GiB inside the server, one after another.
        case copy
        /// Filled allocations of 1 GiB are disposed of, one every 100 ms.
        case dispose
        /// 10 GB are moved in and out, 64 MiB at a time.
        case stream
        /// 10 MiB are read 10 times a second.
        case values
    }

    private static let large = 1 << 30
    private static let chunk = 64 << 20
    private static let value = 10 << 20
    /// Bytes of a system call: some microseconds.
    private static let callSize = 16 << 10

    private let wire: Wire
    private let kind: Kind
    private let pattern: Pattern
    private let isStopped = Atomic<Bool>(false)
    private let isOver = Atomic<Bool>(false)
    private let pair = (Target(number: 2), Target(number: 3))
    private var heap: [Target] = []
    /// Bytes that a stream has still to move.
    private var left: Int
    private var thread: pthread_t?
    private var failure: (any Error)?

    /// Makes what it needs, which is not measured.
    init(_ wire: Wire, _ kind: Kind, quick: Bool, _ pattern: Pattern) throws {
        self.wire = wire
        self.kind = kind
        self.pattern = pattern
        left = quick ? 1_000_000_000 : 10_000_000_000
        let dialect = wire.dialect
        switch kind {
        case .copy:
            for target in [pair.0, pair.1] { try makeLarge(target) }
        case .dispose:
            heap = (0..<(quick ? 3 : 8)).map { Target(number: 10 + $0) }
            for target in heap { try makeLarge(target) }
        case .stream:
            for target in [pair.0, pair.1] {
                try wire.exchange(pattern) {
                    dialect.createFilled(target, size: Self.chunk, &$0)
                }
            }
            // The reader may run on the same processor.
            wire.callSizeMax = Self.callSize
        case .values:
            try wire.exchange(pattern) {
                dialect.createFilled(pair.0, size: Self.value, &$0)
            }
            wire.callSizeMax = Self.callSize
        }
    }

    private func makeLarge(_ target: Target) throws {
        guard let smalloc = wire.dialect as? SmallocDialect else { return }
        try wire.exchange(pattern) {
            smalloc.create(target, size: Self.large, &$0)
            smalloc.fill(target, size: Self.large, &$0)
        }
    }

    func start() throws {
        var thread = pthread_t()
        let box = Unmanaged.passUnretained(self).toOpaque()
        guard pthread_create(&thread, nil, disturberMain, box) == 0 else {
            throw BenchError.setup("no thread for the other client")
        }
        self.thread = thread
    }

    /// Whether it ends by itself; else it goes on until `stop`.
    var hasEnd: Bool { kind == .dispose || kind == .stream }

    /// Whether it has moved what it was to move, or has failed.
    var isDone: Bool { isOver.load(ordering: .relaxed) }

    /// Waits for the end of what it does at the moment.
    func stop() {
        isStopped.store(true, ordering: .relaxed)
        if let thread { pthread_join(thread, nil) }
        thread = nil
    }

    /// Disposes of what is left, once it has stopped.
    func cleanUp() throws {
        if let failure { throw failure }
        let rest =
            switch kind {
            case .dispose: heap
            case .values: [pair.0]
            case .copy, .stream: [pair.0, pair.1]
            }
        for target in rest { try wire.exchange(pattern) { wire.dialect.dispose(target, &$0) } }
    }

    fileprivate func run() {
        do {
            while !isStopped.load(ordering: .relaxed), try step() {}
        } catch { failure = error }
        isOver.store(true, ordering: .relaxed)
    }

    /// False once there is nothing more to do.
    private func step() throws -> Bool {
        let dialect = wire.dialect
        switch kind {
        case .copy:
            try wire.exchange(pattern) {
                _ = dialect.copy(pair.0, to: pair.1, size: Self.large, &$0)
            }
        case .dispose:
            guard let target = heap.popLast() else { return false }
            try wire.exchange(pattern) { dialect.dispose(target, &$0) }
            usleep(100_000)
        case .stream:
            guard left > 0 else { return false }
            try wire.exchange(pattern) {
                dialect.read(pair.0, content: pair.0.content(Self.chunk), &$0)
            }
            try wire.exchange(pattern) { dialect.write(pair.1, size: Self.chunk, &$0) }
            left -= 2 * Self.chunk
        case .values:
            let start = clockNanoseconds()
            try wire.exchange(pattern) {
                dialect.read(pair.0, content: pair.0.content(Self.value), &$0)
            }
            let spent = min((clockNanoseconds() - start) / 1000, 100_000)
            usleep(UInt32(100_000 - spent))
        }
        return true
    }
}

/// The thread's entry, a plain function as C wants it.
private func disturberMain(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let box { Unmanaged<Disturber>.fromOpaque(box).takeUnretainedValue().run() }
    return nil
}
