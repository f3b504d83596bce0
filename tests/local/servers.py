"""A database server behind every restored cluster: what is the same for each engine."""

import shutil


class Servers:
    """By the key of the cluster that each is behind. An engine says how a copy of production is made, started and stopped."""

    def restore(self, key, name):
        """A fresh copy of production for this cluster; its port. A cluster that has a server keeps it."""
        with self.lock:
            if key not in self.servers:
                self.servers[key] = self._start(self._copy(key), name)
            return self.servers[key].port

    def port(self, key):
        server = self.servers.get(key)
        return server.port if server else None

    def key_at(self, port):
        # A copy: another request may restore or destroy one.
        return next((key for key, server in list(self.servers.items()) if server.port == port), None)

    def destroy(self, key):
        with self.lock:
            server = self.servers.pop(key, None)
            if server:
                self._stop(server)
                shutil.rmtree(server.directory, ignore_errors=True)

    def destroy_all(self):
        for key in list(self.servers):
            self.destroy(key)
