// The files of protocol/vectors, as they are described in the README there.

import Foundation

/// An entry of frames.json.
public struct FrameVector: Decodable, Sendable, CustomStringConvertible {
    /// The header; operation and status by name, numbers of 64 bits as decimal text.
    public struct Fields: Decodable, Sendable {
        public let magic: UInt8
        public let version: UInt8
        public let operation: String
        public let flags: UInt8
        public let status: String
        public let nameSize: UInt8
        public let type: UInt8
        public let cookie: String
        public let handle: UInt32
        public let payloadSize: UInt32
        public let offset: String
        public let size: String
    }

    public let name: String
    public let direction: String
    public let fields: Fields
    public let hex: String
    public let varies: [[Int]]?
    public let payloadVaries: Bool?
    /// Whether it is meant for Unix sockets only.
    public let unixSocket: Bool?

    /// The whole frame.
    public var frame: [UInt8] { bytes(hex: hex) ?? [] }
    public var isRequest: Bool { direction == "request" }
    public var description: String { name }

    /// The bytes with those blanked that may differ from run to run.
    public func comparable(_ frame: [UInt8]) -> [UInt8] {
        var frame = frame
        if payloadVaries == true {
            frame.removeLast(max(0, frame.count - TestFrame.headerSize))
            for index in 20..<min(24, frame.count) { frame[index] = 0 }
        }
        for range in varies ?? [] {
            for index in range[0]..<range[0] + range[1] where index < frame.count {
                frame[index] = 0
            }
        }
        return frame
    }
}

/// An entry of malformed.json.
public struct MalformedVector: Decodable, Sendable, CustomStringConvertible {
    public let name: String
    public let hello: Bool
    public let hex: String
    public let end: Bool?
    public let status: String?
    public let closes: Bool

    /// The bytes to send.
    public var frame: [UInt8] { bytes(hex: hex) ?? [] }
    public var description: String { name }
}

/// protocol/values.json.
public struct ProtocolValues: Decodable, Sendable {
    public struct Named: Decodable, Sendable {
        public let name: String
        public let number: Int
    }
    public struct Feature: Decodable, Sendable {
        public let name: String
        public let bit: Int
    }
    public struct Element: Decodable, Sendable {
        public let name: String
        public let number: Int
        public let size: Int
    }
    public struct Flag: Decodable, Sendable {
        public let name: String
        public let value: Int
        public let operations: [String]
    }
    public struct Status: Decodable, Sendable {
        public let name: String
        public let number: Int
        public let `class`: String?
        public let closes: Bool?
        public let sentence: String?
    }

    public let protocolVersion: Int
    public let requestMagic: Int
    public let replyMagic: Int
    public let headerSize: Int
    public let nameSizeMax: Int
    public let rangesMax: Int
    public let waitsMax: Int
    public let atomicSizeMax: Int
    public let fillPatternSizeMax: Int
    public let rankMax: Int
    public let metadataSizeMax: Int
    public let elementTypes: [Element]
    public let operations: [Named]
    public let requestFlags: [Flag]
    public let atomicActions: [Named]
    public let waitResults: [Named]
    public let eventKinds: [Named]
    public let features: [Feature]
    public let errorClasses: [Named]
    public let statuses: [Status]
    public let helloFields: [String]

    /// The number of a status, by name.
    public func status(_ name: String) -> UInt16? {
        statuses.first { $0.name == name }.map { UInt16($0.number) }
    }

    /// The number of an operation, by name.
    public func operation(_ name: String) -> UInt8? {
        operations.first { $0.name == name }.map { UInt8($0.number) }
    }
}

/// The files of protocol/, read once.
public enum Vectors {
    public static let values: ProtocolValues = load("values.json")
    public static let frames: [FrameVector] = load("vectors/frames.json")
    public static let malformed: [MalformedVector] = load("vectors/malformed.json")

    /// Requests of frames.json, each with its reply.
    public static let pairs: [(request: FrameVector, reply: FrameVector)] = stride(
        from: 0, to: frames.count - 1, by: 2
    ).map { (frames[$0], frames[$0 + 1]) }

    private static func load<Value: Decodable>(_ path: String) -> Value {
        do {
            return try JSONDecoder().decode(
                Value.self, from: ProjectFolder.contents(ofProtocolFile: path))
        } catch {
            fatalError("protocol/\(path): \(error)")
        }
    }
}
