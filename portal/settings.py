"""Settings, read from the environment once; every default is for development and refused in production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dj_database_url
import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _

from portal import embedded

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("PORTAL_VAR", default=str(BASE_DIR / "var")))
PORTAL_ENV = env.str("PORTAL_ENV", default="development")
PRODUCTION = PORTAL_ENV == "production"
if PORTAL_ENV not in {"development", "production"}:
    raise ImproperlyConfigured(f"PORTAL_ENV: expected development or production, got {PORTAL_ENV!r}")

DEVELOPMENT_SECRET = "development-only-secret-refused-in-production"
SECRET_KEY = env.str("SECRET_KEY", default="" if PRODUCTION else DEVELOPMENT_SECRET)
if PRODUCTION and (len(SECRET_KEY) < 50 or SECRET_KEY == DEVELOPMENT_SECRET):
    raise ImproperlyConfigured("SECRET_KEY: production needs a secret of at least 50 characters")

DEBUG = env.bool("PORTAL_DEBUG", default=False) and not PRODUCTION
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=[] if PRODUCTION else ["127.0.0.1", "localhost", "[::1]", "testserver"]
)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_rq",
    "portal",
    "orders",
    "production",
    "quality",
    "billing",
    "stations",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "portal.middleware.BrowserRules",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "portal.middleware.BodyRules",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.sign_in_gate.SignInGate",
    "django.contrib.messages.middleware.MessageMiddleware",
    "portal.middleware.RememberAddress",
    "portal.middleware.Refusals",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "portal" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- database and queue: embedded under var/ unless URLs are given (D1, D2) --------------------------------
DATABASE_URL = env.str("DATABASE_URL", default="") or embedded.database_url(VAR_DIR)
REDIS_URL = env.str("REDIS_URL", default="") or embedded.redis_url(VAR_DIR)
DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)}
if not DATABASES["default"]["ENGINE"].endswith("postgresql"):
    raise ImproperlyConfigured("DATABASE_URL: only PostgreSQL is supported (D1)")
DATABASES["default"].setdefault("OPTIONS", {}).update(
    # A worker's host that vanishes must give up its row locks, which are the leases of tasks.
    {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
)
QUEUES = ("default", "bulk")
RQ_QUEUES = {
    name: {
        "URL": REDIS_URL,
        "DEFAULT_TIMEOUT": 1800,
        "DEFAULT_RESULT_TTL": 0,
        "SERIALIZER": "rq.serializers.JSONSerializer",
    }
    for name in QUEUES
}
RQ = {"COMMIT_MODE": "on_db_commit"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- files and keys: files are always sealed (D13), keys stand outside the database ------------------------
FILES_DIR = Path(env.str("FILES_DIR", default=str(VAR_DIR / "files")))
KEYSTORE_DIR = Path(env.str("KEYSTORE_DIR", default=str(VAR_DIR / "keys")))
# The key-encryption key: 32 hex characters, the path of a file of mode 0600, or a pkcs11: URI
# (docs/operators-keys.md).
KEK = env.str("PORTAL_KEK", default="")
KEK_NEXT = env.str("PORTAL_KEK_NEXT", default="")  # while it is changed: the one to come
KEY_IMPORT_HOURS = env.int("KEY_IMPORT_HOURS", default=24)  # how long a first component waits for the second
MASTER_KEY_NAMES = "production.selectors.keys.master_key_names"  # which master keys the cards need
# Every column that holds ids of data keys: a key that none of them names is destroyed after a day.
KEY_REFERENCES = (
    "portal.KeyImport.component_key_id",
    "portal.SecondFactor.key_id",
    "orders.Package.content_key_id",
    "orders.Package.key_id",
    "orders.Package.ring_key_id",
    "orders.AccountFile.key_id",
    "orders.AccountFile.ring_key_id",
    "production.Batch.key_id",
    "stations.EmergencyCase.key_id",
)
if PRODUCTION and not KEK:
    raise ImproperlyConfigured(
        "PORTAL_KEK: production needs a key-encryption key (hex, the path of a 0600 file, or a pkcs11: URI)"
    )
# Where each signed anchor of the audit is also written: a folder on another machine or a write-once disk.
AUDIT_ANCHOR_DIR = env.str("AUDIT_ANCHOR_DIR", default="")
STORAGES: dict[str, Any] = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": FILES_DIR, "allow_overwrite": True, "file_permissions_mode": 0o600},
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = not PRODUCTION
PORTAL_CODE = env.str("PORTAL_CODE", default="FOSHAN-PORTAL")  # our name as recipient of sealed packages
CITY_CODE = env.str("CITY_CODE", default="440600")
CARD_PROFILE = env.str("CARD_PROFILE", default="sssc-3.0-sm4")  # or sssc-2.0-3des
PAYMENT_DIR = env.str("PAYMENT_DIR", default="")  # one reviewed file a bank: <code>.json, no keys in it
FACE_TEMPLATE = env.str("FACE_TEMPLATE", default="plain")
CARD_INITIAL_PIN = env.str("CARD_INITIAL_PIN", default="123456")  # people change it at first use
CARD_INITIALISER = env.str("CARD_INITIALISER", default="440600000001")  # 初始化机构编号, up to 24 digits
# The virtual line: how many of its cards are made wrong, made badly, or lost track of (issue 2, Production).
LINE_WRONG_RATE = env.float("LINE_WRONG_RATE", default=0.0003)
LINE_BAD_RATE = env.float("LINE_BAD_RATE", default=0.0006)
LINE_UNKNOWN_RATE = env.float("LINE_UNKNOWN_RATE", default=0.0002)
# Stations with a feeder: cards in a batch at most, and how many in a row may fail before it stops.
FEEDER_MOST_CARDS = env.int("FEEDER_MOST_CARDS", default=200)
FEEDER_MOST_REJECTS = env.int("FEEDER_MOST_REJECTS", default=3)
INTAKE_DIR = Path(env.str("INTAKE_DIR", default=str(VAR_DIR / "intake")))  # the watched folder
MAX_PACKAGE_BYTES = env.int("MAX_PACKAGE_BYTES", default=8 * 2**30)
MAX_ACCOUNT_FILE_BYTES = env.int("MAX_ACCOUNT_FILE_BYTES", default=64 * 2**20)
MAX_PACKAGE_MEMBERS = env.int("MAX_PACKAGE_MEMBERS", default=1_000_000)
# After a package's first destruction the rest is sealed anew; the pause lets other signed batches go first.
REKEY_PAUSE_SECONDS = env.int("REKEY_PAUSE_SECONDS", default=30)
# How long data waits for its purpose: an account for a record, a record for its account or correction.
ACCOUNT_RETENTION_DAYS = env.int("ACCOUNT_RETENTION_DAYS", default=180)
RECORD_RETENTION_DAYS = env.int("RECORD_RETENTION_DAYS", default=90)
DESTRUCTION_LIMIT_HOURS = env.int("DESTRUCTION_LIMIT_HOURS", default=24)  # a signed batch is red after that
PHOTO_MIN_BYTES = env.int("PHOTO_MIN_BYTES", default=9 * 1024)
PHOTO_MAX_BYTES = env.int("PHOTO_MAX_BYTES", default=40 * 1024)
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "portal.uploads.UnnamedFileUploadHandler",
]
FILE_UPLOAD_PERMISSIONS = 0o600
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**20

# --- people ---------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "portal.User"
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)  # how many proxies of ours stand in front
AUTHENTICATION_BACKENDS = ["portal.roles.RoleBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_ENGINE = "portal.session_store"
SESSION_COOKIE_AGE = env.int("SESSION_IDLE_SECONDS", default=30 * 60)
SESSION_MAX_SECONDS = env.int("SESSION_MAX_SECONDS", default=12 * 3600)  # however busy it is
SESSION_SAVE_EVERY_REQUEST = True
PASSWORD_HISTORY = env.int("PASSWORD_HISTORY", default=5)  # how many of the last passwords may not come back
PASSWORD_MAX_DAYS = env.int("PASSWORD_MAX_DAYS", default=90)  # 0: passwords do not age
SIGN_IN_FAILURES_PER_USER = env.int("SIGN_IN_FAILURES_PER_USER", default=5)
SIGN_IN_FAILURES_PER_ADDRESS = env.int("SIGN_IN_FAILURES_PER_ADDRESS", default=50)  # a branch shares one
SIGN_IN_LOCK_SECONDS = env.int("SIGN_IN_LOCK_SECONDS", default=15 * 60)
# Roles that decide, sign, administer or see people in the clear need a second factor (portal/roles.py);
# more roles can be named here, none can be left out.
TOTP_MORE_ROLES = env.list("TOTP_MORE_ROLES", default=[])
TOTP_REQUIRED = env.bool("TOTP_REQUIRED", default=True)
TOTP_ISSUER = env.str("TOTP_ISSUER", default="社保卡制卡平台")
if PRODUCTION and not TOTP_REQUIRED:
    raise ImproperlyConfigured("TOTP_REQUIRED: production does not do without the second factor")
SESSION_COOKIE_HTTPONLY = True

# --- browsers: what they may load, keep, send and show (docs/developers/browser.md) -------------------------
# No inline script, no eval, no inline style, nothing from elsewhere. portal/static/portal/interface.js makes
# unfold's pages work under it; tests/browser/test_csp.py opens every page and expects no violation.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"  # a link in a mail opens the page it names
CSRF_COOKIE_SAMESITE = "Strict"
if PRODUCTION:
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=True)
    if TRUSTED_PROXIES:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31536000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    # Browsers take a cookie of this prefix from this host alone, over TLS, for the whole site.
    SESSION_COOKIE_NAME = "__Host-session"
    CSRF_COOKIE_NAME = "__Host-csrf"
    LANGUAGE_COOKIE_NAME = "__Host-language"

# --- language and place -----------------------------------------------------------------------------------
LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", "简体中文"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "Asia/Shanghai"
USE_I18N = True
USE_TZ = True
FORMAT_MODULE_PATH = ["portal.formats"]

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.apikit.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PAGINATION_CLASS": "portal.apikit.pagination.KeysetPagination",
    "PAGE_SIZE": 100,
    "EXCEPTION_HANDLER": "portal.apikit.problems.problem_details",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_THROTTLE_CLASSES": ["portal.apikit.throttles.UserThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "user": "600/min",
        "upload": "60/min",
        "station": "900/min",  # a feeder asks five times a card
        "enrol": "10/min",
    },
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Card portal API",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "PackageStatus": "orders.choices.PackageStatus",
        "AccountFileStatus": "orders.choices.AccountFileStatus",
        "AccountPackageStatus": "orders.choices.AccountPackageStatus",
        "OrderStatus": "orders.choices.OrderStatus",
        "CardKind": "orders.choices.CardKind",
        "DeliveryStatus": "production.choices.DeliveryStatus",
        "ReceiptResult": "production.choices.ReceiptResult",
        "StatementStatus": "billing.models.StatementStatus",
        "ReviewStatus": "billing.models.AdjustmentStatus",
        "BilledCardKind": "billing.models.BILLED_KINDS",
        "CardSide": "stations.api.exchange_serializers.CARD_SIDES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.apikit.schema.describe_problems",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
# What unfold keeps of a search stays in its process; limits are counted in Redis (portal/limits.py).
LOCAL_CACHE = "django.core.cache.backends.locmem.LocMemCache"
CACHES: dict[str, Any] = {
    "default": {"BACKEND": LOCAL_CACHE},
    "limits": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "portal",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    },
    "limits_of_process": {"BACKEND": LOCAL_CACHE, "LOCATION": "limits", "OPTIONS": {"MAX_ENTRIES": 100_000}},
}
# How often one user may do it, and four times as often all users of one address; sign-in and wrong
# credentials are counted by address.
RATES = {
    "sign_in": env.str("RATE_SIGN_IN", default="30/min"),
    "search": env.str("RATE_SEARCH", default="60/min"),  # for a person
    "unmask": env.str("RATE_UNMASK", default="30/min"),
    "download": env.str("RATE_DOWNLOAD", default="120/min"),
    "credential": env.str("RATE_CREDENTIAL", default="30/min"),  # wrong ones of programs and stations
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("社会保障卡制卡管理平台"),
    "SITE_HEADER": _("制卡管理平台"),
    "SITE_SUBHEADER": _("第三代社会保障卡"),
    "SITE_SYMBOL": "badge",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("portal/favicon.svg")}
    ],
    "STYLES": [
        lambda request: static("portal/colours.css"),
        lambda request: static("portal/admin.css"),
    ],
    "SCRIPTS": [
        lambda request: static("portal/expressions.js"),
        lambda request: static("portal/interface.js"),
    ],
    "GLOBAL_CALLBACK": "portal.dashboard.without_inline_style",
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": "portal.dashboard.environment",
    "DASHBOARD_CALLBACK": "portal.dashboard.start_page",
    "ACCOUNT": {"navigation": "portal.admin.account.account_links"},
    "SIDEBAR": {"show_search": True, "navigation": "portal.dashboard.navigation"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "portal.reports.QuietFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
        "mail": {"class": "portal.reports.QuietEmailHandler", "level": "ERROR"},
    },
    # Django's own two handlers would write messages and whole requests.
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
    "root": {"handlers": ["console", "mail"], "level": env.str("LOG_LEVEL", default="WARNING")},
}
# Faults are mailed to these addresses, kind and place only (portal/reports.py).
ADMINS = [("", address) for address in env.list("PORTAL_ADMINS", default=[])]
SERVER_EMAIL = env.str("SERVER_EMAIL", default="portal@localhost")
EMAIL_HOST = env.str("EMAIL_HOST", default="localhost")
EMAIL_PORT = env.int("EMAIL_PORT", default=25)
EMAIL_TIMEOUT = 10  # seconds; a mail server that hangs must not hold a worker
DEFAULT_EXCEPTION_REPORTER_FILTER = "portal.reports.NothingShown"
