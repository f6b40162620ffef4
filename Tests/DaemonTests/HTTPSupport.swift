// A client of the HTTP listener with nothing between the test and the bytes.

import Foundation
import TestSupport

/// An answer.
struct HTTPAnswer {
    let status: Int
    /// By lower-case name.
    let headers: [String: String]
    let body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }

    /// The body as JSON.
    var json: [String: Any] {
        (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] ?? [:]
    }

    /// Reads one from a connection, which may go on.
    ///
    /// - Parameter hasBody: No: it answers a HEAD.
    init(from socket: RawSocket, hasBody: Bool = true) throws {
        let line = try HTTPAnswer.line(socket)
        let words = line.split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw RawSocketError.ended
        }
        self.status = status
        var headers: [String: String] = [:]
        while case let line = try HTTPAnswer.line(socket), !line.isEmpty {
            let parts = line.split(separator: ":", maxSplits: 1)
            headers[parts[0].lowercased()] = parts.last?.trimmingCharacters(in: .whitespaces)
        }
        self.headers = headers
        let size = hasBody ? Int(headers["content-length"] ?? "") ?? 0 : 0
        body = size > 0 ? try socket.receive(exactly: size) : []
    }

    private static func line(_ socket: RawSocket) throws -> String {
        let line = try socket.receiveLine()
        return line.hasSuffix("\r") ? String(line.dropLast()) : line
    }
}

/// A daemon that serves HTTP at a Unix socket and is asked there, or at a TCP port.
struct HTTPDaemon {
    let daemon: DaemonProcess
    /// Nil: it is a Unix socket.
    let port: UInt16?
    let path: String
    private let folder: String

    init(tcp: Bool = false, _ options: [String] = []) throws {
        folder = try DaemonProcess.newFolder()
        path = folder + "/h"
        port = tcp ? try RawSocket.freePort() : nil
        daemon = try DaemonProcess(
            ["--http", port.map { "tcp:127.0.0.1:\($0)" } ?? "unix:\(path)"] + options,
            folder: folder)
    }

    func end() {
        daemon.kill()
        try? FileManager.default.removeItem(atPath: folder)
    }

    func connect(seconds: Double = 20) throws -> RawSocket {
        try port.map { try RawSocket(port: $0, seconds: seconds) }
            ?? RawSocket(unix: path, seconds: seconds)
    }

    /// Sends a request on a connection of its own.
    func get(
        _ target: String, method: String = "GET", host: String? = nil, _ headers: [String] = []
    ) throws -> HTTPAnswer {
        let host = host ?? port.map { "127.0.0.1:\($0)" } ?? "localhost"
        let socket = try connect()
        try socket.send(
            HTTPDaemon.request(target, method: method, ["Host: \(host)"] + headers))
        return try HTTPAnswer(from: socket, hasBody: method != "HEAD")
    }

    static func request(
        _ target: String, method: String = "GET", _ headers: [String]
    ) -> [UInt8] {
        Array(
            ("\(method) \(target) HTTP/1.1\r\n" + headers.map { $0 + "\r\n" }.joined() + "\r\n")
                .utf8)
    }
}
