"""Settings: typed, nested by vendor, read once by the command that starts a process."""

from server.settings.loading import Settings, SettingsError, load

__all__ = ["Settings", "SettingsError", "load"]
