// protocol/vectors and the specification's examples through the frame codec, without a daemon.

import Foundation
import SmallocWire
import Testing
import TestSupport

@Suite(.timed) struct VectorTests {
    @Test("headers of the vectors decode to their fields and encode to the same bytes")
    func headers() throws {
        for vector in Vectors.frames {
            let frame = vector.frame
            let header = try #require(parsedHeader(frame), "\(vector.name)")
            let fields = vector.fields
            #expect(
                header.magic == fields.magic && header.version == fields.version, "\(vector.name)")
            #expect(
                header.operation == Vectors.values.operation(fields.operation), "\(vector.name)")
            #expect(header.status == Vectors.values.status(fields.status), "\(vector.name)")
            #expect(
                header.flags == fields.flags && header.nameSize == fields.nameSize, "\(vector.name)"
            )
            #expect(header.type == fields.type && header.handle == fields.handle, "\(vector.name)")
            #expect("\(header.cookie)" == fields.cookie, "\(vector.name)")
            #expect("\(header.offset)" == fields.offset, "\(vector.name)")
            #expect("\(header.size)" == fields.size, "\(vector.name)")
            #expect(header.payloadSize == fields.payloadSize, "\(vector.name)")
            #expect(
                Int(header.payloadSize) == frame.count - FrameHeader.byteCount, "\(vector.name)")
            var encoded = [UInt8](repeating: 0xAA, count: FrameHeader.byteCount)
            encoded.withUnsafeMutableBytes { buffer in
                if let start = buffer.baseAddress { header.write(to: start) }
            }
            #expect(encoded == Array(frame.prefix(FrameHeader.byteCount)), "\(vector.name)")
        }
    }

    @Test("the codec agrees with the one of the tests on every request")
    func twoCodecs() throws {
        for vector in Vectors.frames {
            var frame = TestFrame(header: Array(vector.frame.prefix(40)))
            frame.payload = Array(vector.frame.dropFirst(40))
            #expect(frame.bytes == vector.frame, "\(vector.name)")
        }
    }

    @Test("requests decode, unless their reply says that their shape is wrong")
    func requests() throws {
        for (request, reply) in Vectors.pairs {
            let thrown = try decode(request.frame)
            if let thrown {
                #expect(thrown.name == reply.fields.status, "\(request.name)")
            }
            if reply.fields.status == "ok" { #expect(thrown == nil, "\(request.name)") }
        }
    }

    @Test("malformed requests are refused by the codec with the status of the vector")
    func malformed() throws {
        var count = 0
        for vector in Vectors.malformed where vector.status == "malformedRequest" {
            let frame = vector.frame
            guard let header = parsedHeader(frame), header.status == 0 else { continue }
            // Sums of ranges and descriptions are the registry's to check.
            let isLater = ["write vectored with", "alloc described"].contains {
                vector.name.hasPrefix($0)
            }
            if isLater { continue }
            #expect(try decode(frame)?.name == "malformedRequest", "\(vector.name)")
            count += 1
        }
        #expect(count > 80)
    }

    @Test("the examples of the specification are vectors")
    func examples() throws {
        let text = String(
            decoding: try ProjectFolder.contents(ofProtocolFile: "spec.md"), as: UTF8.self)
        let known = Set(Vectors.frames.map(\.hex))
        var count = 0
        var frame = ""
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let starts = line.hasPrefix("C: e5 ") || line.hasPrefix("S: e6 ")
            let goesOn = line.hasPrefix("   ") && !frame.isEmpty
            if starts || !goesOn {
                if !frame.isEmpty {
                    #expect(known.contains(frame), "\(frame)")
                    count += 1
                }
                frame = ""
            }
            guard starts || goesOn else { continue }
            // Eight bytes and their blanks; what they mean comes after.
            frame += line.dropFirst(3).prefix(23).filter(\.isHexDigit)
        }
        #expect(count >= 2 * 16)
    }

    private func parsedHeader(_ frame: [UInt8]) -> FrameHeader? {
        guard frame.count >= FrameHeader.byteCount else { return nil }
        return frame.withUnsafeBytes { $0.baseAddress.map { FrameHeader(from: $0) } }
    }

    /// The status with which the codec refuses a whole request; nil if it takes it.
    private func decode(_ frame: [UInt8]) throws -> Status? {
        let header = try #require(parsedHeader(frame))
        let operation = try #require(Operation(rawValue: header.operation))
        let payload = Array(frame.dropFirst(FrameHeader.byteCount))
        do throws(SmallocError) {
            _ = try FrameCodec.decode(header, operation, payload: payload.span.bytes)
            return nil
        } catch {
            return error.status
        }
    }
}
