// Atomics: each action on each type, against arithmetic done here; sums of many threads; the order of
// errors.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Atomics", .timed)
struct AtomicTests {
    private static let types: [(type: ElementType, isSigned: Bool)] = [
        (.int8, true), (.uint8, false), (.int16, true), (.uint16, false), (.int32, true),
        (.uint32, false),
    ]

    /// What a cell becomes, all in its low bits.
    private static func changed(
        _ action: AtomicAction, _ cell: UInt64, _ operand: UInt64, _ expected: UInt64
    ) -> UInt64 {
        switch action {
        case .load: cell
        case .store, .exchange: operand
        case .add: cell &+ operand
        case .sub: cell &- operand
        case .and: cell & operand
        case .or: cell | operand
        case .xor: cell ^ operand
        case .compareExchange: cell == expected ? operand : cell
        }
    }

    @Test("each action does to each type what it says, in small memory and in large")
    func actions() {
        var random = SplitMix(for: "actions of atomics")
        let peer = TestDaemon().greeted()
        for (type, isSigned) in AtomicTests.types {
            for size in [UInt64(64), 100_000, 3 << 20] {
                let handle = peer.call(.alloc, type: type.rawValue, size: size).header.handle
                let width = UInt64(type.size)
                let mask = UInt64.max >> (64 - 8 * width)
                var cells: [UInt64: UInt64] = [:]
                for _ in 0..<Scale.count(300) {
                    let offset = random.next() % 8 * (size / 8 / width) * width
                    let action = AtomicAction.allCases[Int(random.next() % 9)]
                    let before = cells[offset] ?? 0
                    let operand = action == .load ? 0 : random.next()
                    let hits = random.next() % 2 == 0
                    let expected =
                        action == .compareExchange
                        ? (hits ? before | random.next() & ~mask : random.next()) : 0
                    let reply = peer.call(
                        .atomic, handle: handle, offset: offset,
                        payload: numbers(UInt64(action.rawValue), operand, expected))
                    let isNegative = isSigned && before >> (8 * width - 1) == 1
                    #expect(reply.number(0) == (isNegative ? before | ~mask : before))
                    #expect(reply.header.type == type.rawValue && reply.header.size == 8)
                    cells[offset] =
                        AtomicTests.changed(action, before, operand & mask, expected & mask) & mask
                }
                for (offset, cell) in cells {
                    let read = peer.call(.read, handle: handle, offset: offset, size: width)
                    #expect(read.payload == Array(numbers(cell).prefix(Int(width))))
                }
                peer.call(.close, handle: handle)
            }
        }
    }

    @Test("a load takes no memory, and what others have beside a cell stays")
    func neighbours() {
        let peer = TestDaemon().greeted()
        let handle = peer.call(.alloc, type: 2, name: "a", size: 9).header.handle
        peer.call(.write, handle: handle, size: 9, payload: [1, 2, 3, 4, 5, 6, 7, 8, 9])
        peer.call(.atomic, handle: handle, offset: 4, payload: numbers(3, 0x1FF, 0))
        let read = peer.call(.read, handle: handle, size: 9)
        #expect(read.payload == [1, 2, 3, 4, 4, 6, 7, 8, 9])
    }

    @Test("errors come in the order of the specification")
    func errors() {
        let peer = TestDaemon().greeted()
        func outcome(
            _ handle: UInt32, name: String = "", offset: UInt64 = 0, _ payload: [UInt8]
        ) -> String {
            peer.call(.atomic, handle: handle, name: name, offset: offset, payload: payload).outcome
        }
        let add = numbers(3, 1, 0)
        let ints = peer.call(.alloc, type: 5, name: "i", size: 12).header.handle
        let doubles = peer.call(.alloc, type: 8, name: "d", size: 16).header.handle
        let gone = peer.call(.alloc, type: 8, name: "gone", size: 16).header.handle
        peer.call(.dispose, name: "gone")
        let noAction = "invalidArgument TypeError: there is no atomic action of this number"
        #expect(outcome(99, numbers(0, 0, 0)) == noAction)
        #expect(outcome(99, numbers(10, 1, 1)) == noAction)
        #expect(outcome(0, name: "a b", add).hasPrefix("invalidName"))
        #expect(outcome(gone, add) == OperationErrorTests.noData)
        #expect(outcome(99, offset: 99, add) == OperationErrorTests.noData)
        let noCells = "invalidArgument TypeError: Double has no atomic operations"
        #expect(outcome(doubles, offset: 99, add) == noCells)
        #expect(outcome(ints, offset: 13, add) == OperationErrorTests.start)
        #expect(outcome(ints, offset: 12, add) == OperationErrorTests.startAndCount)
        #expect(outcome(ints, offset: 10, add) == OperationErrorTests.startAndCount)
        #expect(
            outcome(ints, offset: 7, add)
                == "invalidArgument TypeError: the offset is not a multiple of the element's size")
        #expect(
            peer.call(.read, handle: ints, size: 12).payload == [UInt8](repeating: 0, count: 12))
    }

    @Test("no addition of many threads is lost, by frames and by lines")
    func sums() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 5, warmSizeMax: 0)!
        let control = TestPeer(LoopContext(registry: registry, index: 4))
        control.feed(frame(.hello))
        control.call(.alloc, flags: 2, type: 6, name: "n", size: 4096)
        control.call(.alloc, flags: 2, type: 6, name: "large", size: 1 << 20)
        let rounds = Scale.count(20_000)
        let shared = SharedRegistry(registry: registry)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let peer = TestPeer(LoopContext(registry: shared.registry, index: thread))
            if thread == 3 {
                for _ in 0..<rounds { peer.line("atomic n 1 add 1") }
                return
            }
            peer.feed(frame(.hello))
            let name = thread == 2 ? "large" : "n"
            let handle = peer.call(.open, name: name).header.handle
            let add = frame(.atomic, handle: handle, offset: 4, payload: numbers(3, 1, 0))
            for _ in 0..<rounds { peer.call(add) }
        }
        let small = control.call(.atomic, name: "n", offset: 4, payload: numbers(1, 0, 0))
        #expect(small.number(0) == UInt64(3 * rounds))
        let large = control.call(.atomic, name: "large", offset: 4, payload: numbers(1, 0, 0))
        #expect(large.number(0) == UInt64(rounds))
    }
}

/// A registry on its way to other threads.
private struct SharedRegistry: @unchecked Sendable { let registry: Registry }
