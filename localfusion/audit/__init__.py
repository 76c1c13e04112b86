"""Who asked which preset and which models took part: a log that shows what was changed in it."""

from localfusion.audit.chain import GENESIS, Entry, Fault, Report, verify
from localfusion.audit.log import FILE_NAME, AuditLog, open_audit, read_lines

__all__ = [
    "FILE_NAME",
    "GENESIS",
    "AuditLog",
    "Entry",
    "Fault",
    "Report",
    "open_audit",
    "read_lines",
    "verify",
]
