// `rename` with the flag `replace`: one allocation in the place of another, at one stroke.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Rename in the place of another allocation", .timed)
struct ReplaceTests {
    private static let replace = RenameFlags.replace.rawValue

    @Test("the new one has the name, the old one is gone as by dispose, for all its handles")
    func replaces() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let other = daemon.greeted()
        let old = peer.call(.alloc, type: 2, name: "x", size: 4).header.handle
        let theirs = other.call(.open, name: "x").header.handle
        let new = peer.call(.alloc, type: 4, size: 8).header.handle
        peer.call(.fill, handle: new, size: 8, payload: [7])
        let reply = peer.call(
            .rename, flags: ReplaceTests.replace, handle: new, payload: Array("x".utf8))
        #expect(reply.outcome == "ok")
        #expect(other.call(.read, name: "x", size: 8).payload == [UInt8](repeating: 7, count: 8))
        let gone = "noData Error: object has no external array data"
        #expect(peer.call(.read, handle: old, size: 1).outcome == gone)
        #expect(other.call(.read, handle: theirs, size: 1).outcome == gone)
        // The handles are still open, and want to be closed.
        #expect(peer.call(.close, handle: old).outcome == "ok")
        #expect(other.call(.close, handle: theirs).outcome == "ok")
        #expect(daemon.registry.budget.allocationCount == 1)
        // It belongs to its connection no longer.
        peer.session.end(daemon.loop)
        peer.isClosed = true
        #expect(other.call(.stat, name: "x").outcome == "ok")
    }

    @Test("onto its own name, and onto one that is free, it is a plain rename")
    func plain() {
        let peer = TestDaemon().connect()
        #expect(peer.line("alloc a 2\nwrite a 0 1 2") == "OK\nOK")
        #expect(peer.line("rename a a replace\nread a") == "OK\nOK 1 2")
        #expect(peer.line("rename a b REPLACE\nread b") == "OK\nOK 1 2")
        #expect(peer.line("list") == "ITEM b Uint8 2\nOK 1")
    }

    @Test("a refused one changes nothing, and the errors come in their order")
    func refused() {
        let daemon = TestDaemon()
        let peer = daemon.connect()
        #expect(peer.line("alloc a 1\nwrite a 0 5") == "OK\nOK")
        #expect(peer.line("rename nothing a") == noData)
        #expect(peer.line("rename nothing a replace") == noData)
        #expect(peer.line("rename nothing \u{e9} replace").hasPrefix("ERR invalidName "))
        #expect(peer.line("rename a b replace x").hasPrefix("ERR invalidArgument "))
        #expect(peer.line("rename a b instead").hasPrefix("ERR invalidArgument "))
        #expect(peer.line("alloc b 1\nrename b a").hasSuffix(exists))
        #expect(peer.line("read a\nlist") == "OK 5\nITEM a Uint8 1\nITEM b Uint8 1\nOK 2")
    }

    private let noData = "ERR noData Error: object has no external array data"
    private let exists = "ERR alreadyExists TypeError: object already has external array data"

    @Test(
        "what the replaced one held goes back", arguments: [1, 4096, 65_536, 1 << 20, 3 << 20])
    func memory(_ size: Int) {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "x", size: UInt64(size))
        let held = daemon.settledSize
        let long = String(repeating: "t", count: 200)
        for round in 0..<20 {
            let new = peer.call(
                .alloc, type: 2, name: round % 2 == 0 ? "" : long, size: UInt64(size))
            #expect(new.outcome == "ok")
            let reply = peer.call(
                .rename, flags: ReplaceTests.replace, handle: new.header.handle,
                payload: Array("x".utf8))
            #expect(reply.outcome == "ok")
            peer.call(.close, handle: new.header.handle)
        }
        #expect(daemon.registry.budget.allocationCount == 1)
        // One block, but for a name that had more room.
        #expect(daemon.settledSize <= held + 512)
        #expect(peer.call(.dispose, name: "x").outcome == "ok")
        #expect(daemon.settledSize == 0)
    }

    @Test("while others replace it, every request by name finds one that is whole")
    func neverMissing() {
        let registry = Registry(
            limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 1 << 20)!
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        first.call(.alloc, flags: 2, type: 2, name: "x", size: 256)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let peer = TestPeer(LoopContext(registry: registry, index: thread))
            peer.feed(frame(.hello))
            thread < 2 ? ReplaceTests.replaceOften(peer) : ReplaceTests.useOften(peer)
        }
        #expect(registry.budget.allocationCount == 1)
        #expect(first.call(.dispose, name: "x").outcome == "ok")
        registry.mappings.drain()
        #expect(registry.budget.usedSize == 0)
    }

    private static func replaceOften(_ peer: TestPeer) {
        for step in 0..<Scale.count(20_000) {
            // Also of a size that has a mapping of its own, which goes back at once.
            let size: UInt64 = step % 50 == 0 ? 70_000 : 256
            let handle = peer.call(.alloc, type: 2, size: size).header.handle
            peer.call(
                .fill, handle: handle, size: size, payload: [UInt8(truncatingIfNeeded: step)])
            let reply = peer.call(
                .rename, flags: replace, handle: handle, payload: Array("x".utf8))
            if reply.outcome != "ok" {
                Issue.record("step \(step): \(reply.outcome)")
                return
            }
            peer.call(.close, handle: handle)
        }
    }

    private static func useOften(_ peer: TestPeer) {
        for step in 0..<Scale.count(20_000) {
            let reply: Reply
            switch step % 8 {
            case 0:
                reply = peer.call(.open, name: "x")
                if reply.status == .ok { peer.call(.close, handle: reply.header.handle) }
            case 1: reply = peer.call(.stat, name: "x")
            case 2: reply = peer.call(.fill, name: "x", size: 256, payload: [UInt8(step & 0xFF)])
            case 3: reply = peer.call(.copy, name: "x", size: 256, payload: copyDest(0, name: "x"))
            case 4:
                reply = peer.call(
                    .write, name: "x", size: 256, payload: [UInt8](repeating: 1, count: 256))
            case 5:
                reply = peer.call(
                    .read, flags: 1, name: "x", size: 2, payload: numbers(0, 100, 100, 156))
            default: reply = peer.call(.read, name: "x", size: 256)
            }
            if reply.outcome != "ok" {
                Issue.record("step \(step): \(reply.outcome)")
                return
            }
            if reply.header.operation == Operation.read.rawValue,
                !reply.payload.allSatisfy({ $0 == reply.payload.first })
            {
                Issue.record("step \(step): torn")
                return
            }
        }
    }

    @Test("an answer of noData is done over only where all that the request means is there")
    func overtaken() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let handle = peer.call(.alloc, type: 2, name: "x", size: 4).header.handle
        let gone = peer.call(.alloc, type: 2, name: "gone", size: 4).header.handle
        peer.call(.dispose, name: "gone")
        func isOvertaken(_ name: String, _ handle: UInt32) -> Bool {
            Array(name.utf8).withUnsafeBytes { bytes in
                let target = Reference(handle: handle, name: RawSpan(_unsafeBytes: bytes))
                return daemon.registry.isOvertaken(.stat(target), peer.session.caller)
            }
        }
        #expect(isOvertaken("x", 0))
        #expect(isOvertaken("", handle))
        #expect(!isOvertaken("gone", 0))
        #expect(!isOvertaken("", gone))
        #expect(!isOvertaken("", 99))
    }

    @Test("a large write by name goes to what has the name, while others replace it")
    func largeWrites() {
        let registry = Registry(
            limits: SharedLimits(Limits()), loops: 2, warmSizeMax: 1 << 20)!
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        first.call(.alloc, flags: 2, type: 2, name: "x", size: 70_000)
        DispatchQueue.concurrentPerform(iterations: 2) { thread in
            let peer = TestPeer(LoopContext(registry: registry, index: thread))
            peer.feed(frame(.hello))
            let data = [UInt8](repeating: 3, count: 70_000)
            for step in 0..<Scale.count(2000) {
                let reply: Reply
                if thread == 0 {
                    let handle = peer.call(.alloc, type: 2, size: 70_000).header.handle
                    reply = peer.call(
                        .rename, flags: ReplaceTests.replace, handle: handle,
                        payload: Array("x".utf8))
                    peer.call(.close, handle: handle)
                } else {
                    reply = peer.call(.write, name: "x", size: 70_000, payload: data)
                }
                if reply.outcome != "ok" {
                    Issue.record("step \(step): \(reply.outcome)")
                    break
                }
            }
        }
        #expect(registry.budget.allocationCount == 1)
    }

    @Test("two allocations that replace each other leave one, each time")
    func eachOther() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 2, warmSizeMax: 0)!
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        for round in 0..<Scale.count(2000) {
            for name in ["a", "b"] {
                first.call(.alloc, flags: 2, type: 2, name: name, size: 64)
            }
            DispatchQueue.concurrentPerform(iterations: 2) { thread in
                let peer = TestPeer(LoopContext(registry: registry, index: thread))
                peer.feed(frame(.hello))
                let (name, other) = thread == 0 ? ("a", "b") : ("b", "a")
                let reply = peer.call(
                    .rename, flags: ReplaceTests.replace, name: name, payload: Array(other.utf8))
                if reply.status != .ok, reply.status != .noData {
                    Issue.record("round \(round): \(reply.outcome)")
                }
            }
            #expect(registry.budget.allocationCount == 1, "round \(round)")
            for name in ["a", "b"] { first.call(.dispose, name: name) }
        }
        #expect(registry.budget.usedSize == 0)
    }
}
