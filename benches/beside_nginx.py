"""What a resumed connection costs nginx and the server of `loopback.rs`: their CPU time, on loopback.

The whole of it: accepting, the handshake, a request and an answer of some bytes. Both are one process of
one thread with the same certificate; the client, which is not measured, is Python's `ssl`.
"""

import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

CONNECTIONS = 2_000
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
NGINX = {
    "sessions": "ssl_session_tickets off; ssl_session_cache shared:tls:10m;",
    "tickets": "ssl_session_tickets on;",
}
OURS = {"sessions": ["internal", "stateful"], "tickets": ["tickets", "stateless"]}


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def identity(directory):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-days", "2", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=directory,
        check=True,
        stderr=subprocess.DEVNULL,
    )


def find_nginx():
    binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not binary:
        raise SystemExit("nginx is not there; on Debian: apt install nginx")
    return binary


def version():
    asked = subprocess.run([find_nginx(), "-v"], check=True, capture_output=True, text=True)
    return asked.stderr.split(":")[1].strip()


def nginx_command(directory, port, settings):
    pathlib.Path(directory, "conf").write_text(
        f"""daemon off; master_process off; worker_processes 1; pid {directory}/pid;
        error_log stderr; events {{}}
        http {{
            access_log off; keepalive_timeout 0;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
                ssl_protocols TLSv1.2 TLSv1.3; {settings}
                location / {{ return 200 "an answer\\n"; }}
            }}
        }}"""
    )
    return [find_nginx(), "-e", "stderr", "-p", directory, "-c", f"{directory}/conf"]


def connect(context, port, session):
    """One connection. Returns the session to offer next, and whether this one was resumed."""
    with socket.create_connection(("127.0.0.1", port)) as tcp:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(tcp, session=session) as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while tls.recv(65_536):
                pass
            return tls.session, tls.session_reused


def cpu_seconds(pid):
    # After the name, which may hold blanks: user and system time are fields 14 and 15 of the line.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command, port):
    """Microseconds of the server's CPU for a resumed connection, by version."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        times = {}
        for name, version in VERSIONS.items():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
            for _ in range(200):
                try:
                    session, _ = connect(context, port, None)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            else:
                raise SystemExit(f"{command[0]} does not listen")
            before = cpu_seconds(server.pid)
            for _ in range(CONNECTIONS):
                session, reused = connect(context, port, session)
                assert reused, f"{command[0]}, {name}: not resumed"
            times[name] = (cpu_seconds(server.pid) - before) / CONNECTIONS * 1e6
        return times
    finally:
        server.terminate()
        server.wait()


def compare(loopback):
    """{server: {version: [microseconds of five runs]}}; `loopback` is the path of ours."""
    runs = {}
    with tempfile.TemporaryDirectory() as directory:
        identity(directory)
        files = [f"{directory}/cert.pem", f"{directory}/key.pem"]
        for _ in range(5):
            for way, settings in NGINX.items():
                port = free_port()
                commands = {f"nginx, {way}": nginx_command(directory, port, settings)}
                for variant in OURS[way]:
                    commands[variant] = [loopback, variant, str(port)] + files
                for name, command in commands.items():
                    runs.setdefault(name, []).append(measure(command, port))
    return {
        name: {v: sorted(run[v] for run in times) for v in VERSIONS}
        for name, times in runs.items()
    }
