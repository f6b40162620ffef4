// protocol/vectors and protocol/transcripts through sessions, in process.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Vectors of the protocol through sessions")
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
        let peer = daemon().connect()
        for (request, reply) in Vectors.pairs {
            peer.output = []
            peer.feed(request.frame)
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
        let peer = vector.hello ? daemon().greeted() : daemon().connect()
        peer.feed(vector.frame)
        let closedBySession = peer.isClosed
        if vector.end == true { peer.feedEnd() }
        let found = replies(in: peer.output)
        let expected = vector.status.flatMap { Vectors.values.status($0) }
        #expect(found?.last?.header.status == expected)
        if vector.end != true { #expect(closedBySession == vector.closes) }
    }

    @Test(
        "each transcript is answered as it says, whole and byte by byte",
        arguments: Transcript.all, [1, 1_000_000])
    func transcripts(_ transcript: Transcript, _ size: Int) {
        let peer = daemon().connect()
        peer.feed(transcript.input) { size }
        if transcript.endsInput { peer.feedEnd() }
        let fault = transcript.fault(in: String(decoding: peer.output, as: UTF8.self))
        #expect(fault == nil, "\(fault ?? "")")
        #expect(peer.isClosed)
    }
}
