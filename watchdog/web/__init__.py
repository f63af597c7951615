"""What browsers load: the client in `client/`, which is a package of npm as it stands. No Python lives here."""
