# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates for tests of TLS: directories as QEMU's tls-creds-x509 has them, made by openssl(1)."""
import os
import shutil
import subprocess

from guest import Skip

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def run(*args, cwd):
    subprocess.run(("openssl",) + args, check=True, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def authority(path, name="CA"):
    """A CA of this name in a directory of its own, with a server's certificate for localhost and 127.0.0.1, and a client's, CN=client."""
    if not shutil.which("openssl"):
        raise Skip("there is no openssl to make certificates with")
    os.makedirs(path)
    run("req", "-x509", *KEY, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-days", "2", "-subj", "/CN=" + name, cwd=path)
    sign(path, "server", "/O=Lodge/CN=server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    sign(path, "client", "/O=Lodge/CN=client", "extendedKeyUsage=clientAuth")
    return path


def sign(path, what, subject, extension):
    run("req", *KEY, "-keyout", what + "-key.pem", "-out", "request", "-subj", subject, cwd=path)
    with open(os.path.join(path, "extensions"), "w", encoding="utf-8") as f:
        f.write(extension + "\n")
    run("x509", "-req", "-in", "request", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", "extensions",
        "-out", what + "-cert.pem", cwd=path)
