"""A real Elasticsearch 7.17 (es7), 8 (es8) or OpenSearch 2 (os2), started from Maven Central's jars inside a network namespace, and reading back from it."""

import json
import os
import re
import signal
import subprocess
import shutil

import netns
from common import HERE, cache_dir, digest_of, need_tools, run, say, wait_for

SOURCE = HERE / "elasticsearch"
KINDS = {"es7": "Elasticsearch 7", "es8": "Elasticsearch 8", "os2": "OpenSearch 2"}
# The jars that Elasticsearch 8 takes from a folder of modules, and not from the class path.
MODULE = re.compile(r"/(netty-|transport-netty4-|elasticsearch-ssl-config-)")


def class_path(kind):
    """The jars (about 60 MB, fetched once by Maven); the list is kept in the cache by the pom's digest."""
    pom = SOURCE / kind / "pom.xml"
    kept = cache_dir() / f"elasticsearch-{digest_of(pom.read_bytes())}.cp"
    if kept.is_file() and all(os.path.exists(jar) for jar in kept.read_text().split(":")):
        return kept.read_text()
    need_tools("java", "mvn")
    say(f"fetching the jars of {KINDS[kind]}: once")
    new = kept.with_suffix(f".new-{os.getpid()}")
    run("mvn", "-q", "-B", "-f", pom, "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath",
        f"-Dmdep.outputFile={new}", timeout=600)
    new.rename(kept)
    return kept.read_text()


class Elasticsearch:
    def __init__(self, home, namespace, kind="es7"):
        """Starts the server; `home` is an empty folder for it."""
        self.home, self.namespace = home, namespace
        jars = class_path(kind).strip().split(":")
        module = [jar for jar in jars if kind == "es8" and MODULE.search(jar)]
        jars = [jar for jar in jars if jar not in module]
        (home / "logs").mkdir(parents=True, exist_ok=True)
        self.log = home / "out.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                ["nsenter", f"--net={namespace}", os.environ.get("JAVA", "java"), "-XX:TieredStopAtLevel=1",
                 "-XX:+UseSerialGC", "-Xmx768m", "-cp", ":".join(jars), str(SOURCE / kind / "Main.java"), str(home), "0", *filter(None, [":".join(module)])],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        self.port = wait_for("Elasticsearch to answer", self._answers, 180)

    def _answers(self):
        if self.process.poll() is not None:
            raise SystemExit("Elasticsearch ended: " + self.log.read_text(errors="replace")[-3000:])
        found = re.search(r"127\.0\.0\.1:(\d+)", (self.home / "logs/http.ports").read_text())
        port = int(found[1])
        netns.fetch(self.namespace, "127.0.0.1", port, "/_cluster/health", timeout=5)
        return port

    def ask(self, url, method="GET", body=None, timeout=60):
        """Straight to the server, past the proxy."""
        return json.loads(netns.fetch(self.namespace, "127.0.0.1", self.port, url, method, body, timeout) or "null")

    def count(self, index, query=None):
        """How many documents there are; 0 where there is no index yet."""
        self.ask(f"/{index}/_refresh?ignore_unavailable=true&allow_no_indices=true", "POST")
        return self.ask(f"/{index}/_count?ignore_unavailable=true&allow_no_indices=true", "POST",
                        {"query": query or {"match_all": {}}})["count"]

    def documents(self, index, query=None, page=5000):
        """Every document that matches, as (_id, _index, _source), through the scroll API: independent of any sort field."""
        self.ask(f"/{index}/_refresh?ignore_unavailable=true&allow_no_indices=true", "POST")
        answer = self.ask(f"/{index}/_search?scroll=2m&ignore_unavailable=true&allow_no_indices=true", "POST",
                          {"size": page, "sort": ["_doc"], "query": query or {"match_all": {}}})
        while answer["hits"]["hits"]:
            for hit in answer["hits"]["hits"]:
                yield hit["_id"], hit["_index"], hit["_source"]
            answer = self.ask("/_search/scroll", "POST", {"scroll": "2m", "scroll_id": answer["_scroll_id"]})
        self.ask("/_search/scroll", "DELETE", {"scroll_id": answer["_scroll_id"]})

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.home / "data", ignore_errors=True)
