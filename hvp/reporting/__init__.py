"""What people see: report, tables, figures, panels, loggers."""
