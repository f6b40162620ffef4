// protocol/vectors and protocol/transcripts through sessions, in process.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Vectors of the protocol through sessions", .timed)
struct ProtocolVectorTests {
    /// As the daemon is by default, with the memory that the vectors' greeting tells.
    private func daemon() -> TestDaemon {
        TestDaemon {
            $0.memorySizeMax = 16 << 30
            $0.lengthSizeMax = 16 << 30
        }
    }

    @Test("each request of frames.json gets the reply that follows it")
    func frames() {
        let daemon = daemon()
        let peer = daemon.connect(mapping: true)
        for (request, reply) in Vectors.pairs {
            peer.output = []
            peer.feed(request.frame)
            if peer.hasWaits { daemon.expireWaits() }
            let isGreeting = reply.fields.operation == "hello"
            if !isGreeting {
                #expect(reply.comparable(peer.output) == reply.comparable(reply.frame), "\(reply)")
            }
        }
    }

    @Test(
        "each entry of malformed.json gets its status, and the close or not",
        arguments: Vectors.malformed)
    func malformed(_ vector: MalformedVector) {
        let peer = vector.hello ? daemon().greeted(mapping: true) : daemon().connect(mapping: true)
        peer.feed(vector.frame)
        let closedBySession = peer.isClosed
        if vector.end == true { peer.feedEnd() }
        let found = replies(in: peer.output)
        let expected = vector.status.flatMap { Vectors.values.status($0) }
        #expect(found?.last?.header.status == expected)
        if vector.end != true { #expect(closedBySession == vector.closes) }
    }

    @Test("the keys of stats are those of the specification, in its order; so are its examples'")
    func statistics() throws {
        let spec = String(
            decoding: try ProjectFolder.contents(ofProtocolFile: "spec.md"), as: UTF8.self)
        let lines = spec.components(separatedBy: "\n")
        let start = try #require(lines.firstIndex { $0.hasPrefix("### 7.15 ") })
        let page = lines[start...].prefix { !$0.hasPrefix("### 7.16 ") }
        let peer = daemon().connect(mapping: true)
        peer.feed(Array("stats\n".utf8))
        let told = String(decoding: peer.output, as: UTF8.self).split(separator: "\n")
        let keys = told.dropLast().map { String($0.split(separator: " ")[1]) }

        var listed: [String] = []
        for row in page where row.hasPrefix("| `") {
            let words = row.components(separatedBy: " | ")[0].components(separatedBy: "`")
            let named = words.indices.filter { $0 % 2 == 1 }.map { words[$0] }
            listed +=
                named.first == "requests_hello"
                ? Vectors.values.operations.map { "requests_\($0.name)" } : named
        }
        #expect(keys == listed)

        let example = page.filter { $0.hasPrefix("S: STAT ") }.map { $0.split(separator: " ")[2] }
        #expect(!example.isEmpty && keys.starts(with: example.map(String.init)))
        #expect(page.contains("S: OK \(keys.count)"))
        #expect(told.last == "OK \(keys.count)")
        let vector = try #require(Vectors.frames.first { $0.name == "stats reply" }).frame
        let payload = String(decoding: vector.dropFirst(40), as: UTF8.self)
        let sent = payload.split(separator: "\n").map { String($0.split(separator: " ")[0]) }
        #expect(!sent.isEmpty && keys.starts(with: sent))
    }

    @Test(
        "each transcript is answered as it says, whole and byte by byte",
        arguments: Transcript.all, [1, 1_000_000])
    func transcripts(_ transcript: Transcript, _ size: Int) {
        let daemon = daemon()
        let peer = daemon.connect(mapping: true)
        peer.feed(transcript.input) { size }
        while peer.hasWaits { daemon.expireWaits() }
        if transcript.endsInput { peer.feedEnd() }
        let fault = transcript.fault(in: String(decoding: peer.output, as: UTF8.self))
        #expect(fault == nil, "\(fault ?? "")")
        #expect(peer.isClosed)
    }
}
